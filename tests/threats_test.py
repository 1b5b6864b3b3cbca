"""Threats to validity (plots/threats.py) on small frames: each is seen where it is there, and only there."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "plots"))

import gpu_threats
import noise
import threats
from finding import CLEAR, SEEN, UNKNOWN, Data

CALM = {"point": "p", "variant": "a", "problem": "b=1", "status": "ok", "device": "cpu", "node": "host", "time_s_median": 1.0,
        "time_s_ci_low": 0.99, "time_s_ci_high": 1.01, "samples": 20, "processes": 2, "stop": "ratio", "outliers": 0,
        "time_s_sd_between": 0.01, "ratio_to_baseline": 1.0, "ratio_ci_low": 0.99, "roof_fraction": 0.8, "deterministic": "yes",
        "error_bound": 0.1, "steal_fraction": 0.0, "cpu_pressure": 0.0}
GPU = {"device": "cuda", "samples_throttled": 0, "time_hot_s_median": 0.99, "latency_s_median": 1.0, "memory_process_peak_bytes": 1010,
       "memory_operands_bytes": 900, "memory_workspace_planned_bytes": 100}
FIT = {"variant": "a", "setting": "b=1", "points": 6, "excluded": 0, "why_excluded": None, "knees": None}
ENVIRONMENT = {"build": {"dirty": False, "commit": "0123456789abcdef"}, "cpu": {"hypervisor": False},
               "sessions": [{"start": "1", "end": "2"}]}


def data_of(rows=({},), fits=({},), clocks=(3e9, 2.99e9), **environment):
    results = pd.DataFrame([{**CALM, "point": f"p{index}", **row} for index, row in enumerate(rows)])
    samples = pd.DataFrame({"point": "p0", "variant": "a", "time_s": 1.0, "clock_hz": list(clocks)})
    return Data(results, samples, pd.DataFrame([{**FIT, **fit} for fit in fits]), {**ENVIRONMENT, **environment})


# Check, what makes it seen, and words of the finding.
SEEN_CASES = [
    (noise.wide_intervals, {"rows": [{}, {"time_s_ci_high": 1.1}]}, "worst 10 %; 1 of 2 rows"),
    (noise.wide_intervals, {"rows": [{}, {"time_s_ci_low": 0.9}]}, "worst 10 %; 1 of 2 rows"),
    (noise.target_missed, {"rows": [{}, {"stop": "budget"}]}, "1 of 2 rows stopped"),
    (noise.target_missed, {"rows": [{}, {"stop": "processes"}]}, "in 1 the processes differ"),
    (noise.few_samples, {"rows": [{}, {"samples": 5}]}, "1 of 2 rows"),
    (noise.one_process, {"rows": [{}, {"processes": 1}]}, "1 of 2 rows"),
    (noise.between_processes, {"rows": [{}, {"time_s_sd_between": 0.05}]}, "worst 5 %; 1 of 2 rows"),
    (noise.outliers, {"rows": [{}, {"outliers": 3}]}, "3 of 40 samples (7.5 %)"),
    (noise.steal_time, {"rows": [{}, {"steal_fraction": 0.02}, {"steal_fraction": 0.06}]}, "2 of 3 rows above 1 %, 1 above 5 %"),
    (noise.cpu_pressure, {"rows": [{}, {"cpu_pressure": 0.3}]}, "worst 30 %"),
    (noise.clock, {"clocks": [3e9, 3e9, 2.7e9]}, "90 % to 100 %; 1 of 3 samples below 95 %"),
    (gpu_threats.throttled, {"rows": [GPU, {**GPU, "samples_throttled": 5}]}, "During 5 of 40 samples"),
    (gpu_threats.cold_and_hot, {"rows": [GPU, {**GPU, "time_hot_s_median": 0.5}]}, "50 % at most; 1 of 2 rows"),
    (gpu_threats.mostly_launches, {"rows": [GPU, {**GPU, "time_s_median": 1e-5}], "roofs": {"gpu": {"launch_s": 2e-6}}},
     "1 of 2 rows"),
    (gpu_threats.host_latency, {"rows": [GPU, {**GPU, "latency_s_median": 4.0}]}, "more than 50 % in 1 of 2 rows"),
    (gpu_threats.past_the_workspace, {"rows": [GPU, {**GPU, "memory_process_peak_bytes": 1500}]}, "50 % of them at most"),
    (threats.not_measured, {"rows": [{}, {"status": "timed_out"}]}, "1 timed_out"),
    (threats.above_roof, {"rows": [{}, {"roof_fraction": 1.2}]}, "largest share 120 %"),
    (threats.nondeterministic, {"rows": [{}, {"deterministic": "no"}]}, "1 of 2 rows"),
    (threats.near_bound, {"rows": [{}, {"error_bound": 0.7}]}, "0.7; 1 of 2 rows above 0.5"),
    (threats.no_common_rounds, {"rows": [{"point": "q"}, {"point": "q", "ratio_to_baseline": None, "ratio_ci_low": None}]},
     "1 of 2 rows"),
    (threats.no_common_rounds, {"rows": [{}, {"ratio_ci_low": None}]}, "1 have a ratio without an interval"),
    (threats.excluded_points, {"fits": [{}, {"excluded": 2, "why_excluded": "128: timed_out; 1e+06: time below 20 us"}]},
     "2 points are left out of 1 of 2 fits: timed_out (1), time below 20 us (1)"),
    (threats.cache_knees, {"fits": [{}, {"knees": "256: leaves L2, time steps by 0.84"}]}, "leaves L2 (1)"),
    (threats.short_fits, {"fits": [{}, {"points": 3}]}, "1 of 2 fits"),
]
CAMPAIGN_CASES = [
    (threats.uncommitted, {"build": {"dirty": True, "commit": "0123456789abcdef"}}, "0123456789ab"),
    (threats.several_machines, {"rows": [{}, {"node": "other"}]}, "2 nodes (host, other)"),
    (threats.several_sessions, {"sessions": [{"start": "1"}, {"start": "3", "end": None}]}, "2 sessions"),
    (threats.virtual_machine, {"cpu": {"hypervisor": True}}, "hypervisor"),
]


@pytest.mark.parametrize("check, changes, words", SEEN_CASES)
def test_seen(check, changes, words):
    finding = check(data_of(**changes))
    assert finding.state == SEEN
    assert words in finding.text
    assert 0 < len(finding.rows) < 3
    assert all(variant == "a" and problem == "b=1" and value for variant, problem, value in finding.rows)


@pytest.mark.parametrize("check, changes, words", CAMPAIGN_CASES)
def test_seen_in_the_campaign(check, changes, words):
    finding = check(data_of(**changes))
    assert finding.state == SEEN and words in finding.text


@pytest.mark.parametrize("name, check", threats.CHECKS)
def test_not_seen_in_a_calm_campaign(name, check):
    finding = check(data_of(rows=[{}, {}]))
    assert finding.state == CLEAR and finding.rows == [] and finding.text.endswith(".")


@pytest.mark.parametrize("name, check", gpu_threats.CHECKS)
def test_not_seen_on_a_calm_gpu(name, check):
    finding = check(data_of(rows=[GPU, GPU], roofs={"gpu": {"launch_s": 2e-6}}))
    assert finding.state == CLEAR and finding.rows == [] and finding.text != "No row was measured on a GPU."


@pytest.mark.parametrize("name, check", gpu_threats.CHECKS)
def test_a_gpu_without_columns(name, check):
    assert check(data_of(rows=[{"device": "cuda"}])).state == UNKNOWN


def test_why_a_gpu_was_throttled():
    data = data_of(rows=[{**GPU, "samples_throttled": 2}])
    data.samples["throttled"] = ["power_cap", "power_cap"]
    assert "Why: power_cap (2)." in gpu_threats.throttled(data).text


@pytest.mark.parametrize("name, check", threats.CHECKS)
def test_cannot_be_judged_without_columns(name, check):
    finding = check(Data(pd.DataFrame({"point": ["p"], "variant": ["a"]})))
    assert finding.state == UNKNOWN and finding.text.endswith(".")


@pytest.mark.parametrize("name, check", threats.CHECKS)
def test_a_campaign_without_rows(name, check):
    assert check(Data(data_of().results.head(0))).state == UNKNOWN


def test_every_check_is_tested():
    tested = {case[0] for case in SEEN_CASES + CAMPAIGN_CASES}
    assert tested == {check for _, check in threats.CHECKS}


def test_an_empty_column_cannot_be_judged():
    finding = noise.target_missed(data_of(rows=[{"stop": None}]))
    assert finding.state == UNKNOWN and "stop" in finding.text


def test_steal_time_of_older_folders_is_that_of_the_session():
    """Schema 2 has no column, but the host's counters before and after."""
    for stolen, state in ((50, SEEN), (5, CLEAR)):
        session = {"steal_start": {"all_jiffies": 0, "steal_jiffies": 0},
                   "steal_end": {"all_jiffies": 1000, "steal_jiffies": stolen}}
        finding = noise.steal_time(data_of(rows=[{"steal_fraction": None}], sessions=[session]))
        assert finding.state == state and "single rows cannot be judged" in finding.text


def test_clocks_of_devices_are_not_compared():
    data = data_of(rows=[{}, {"device": "cuda"}], clocks=[3e9, 3e9])
    data.samples = pd.concat([data.samples, data.samples.assign(point="p1", clock_hz=1.5e9)])
    assert noise.clock(data).state == CLEAR


def test_what_was_seen_stands_first():
    states = [finding.state for _, finding in threats.judge(data_of(rows=[{"samples": 1, "stop": None}]))]
    assert states == sorted(states, key=[SEEN, UNKNOWN, CLEAR].index) and len(states) == len(threats.CHECKS)
    assert {SEEN, UNKNOWN, CLEAR} == set(states)
