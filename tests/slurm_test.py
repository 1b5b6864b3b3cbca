"""`attnbench slurm` on a real Slurm (tests/cluster.py): a node dies in the middle, its shard is requeued, and the merged
campaign is that of one machine. The program under test has the variants of tests/faulty_variants.cpp."""

import json
import os
import subprocess

import pandas
import pytest

import cluster as slurm_cluster
from program import PROGRAM, attnbench

pytestmark = pytest.mark.skipif(bool(slurm_cluster.why_not()), reason=slurm_cluster.why_not() or "-")

NODES = 3
SWEEP = ["--n", "16:56:+8", "--mask", "none causal", "--d", "32", "--h", "2", "--threads", "1", "--budget", "0.02", "--timeout",
         "900", "--variants", "^(reference|waits)/"]
MEASURED = ["time_s_median", "time_s_ci_low", "time_s_ci_high", "time_s_min", "samples", "rounds", "flops_per_s", "roof_fraction",
            "stop", "outliers", "time_s_sd_within",
            "time_s_sd_between", "time_s_predicted", "bound", "memory_process_peak_bytes", "clock_hz_mean", "steal_fraction", "cpu_pressure", "node"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = slurm_cluster.Cluster(tmp_path_factory.mktemp("cluster") / "slurm", NODES)
    yield started
    started.stop()


def rows_of(folder):
    try:
        return pandas.read_csv(folder / "results.csv")
    except (FileNotFoundError, pandas.errors.EmptyDataError):
        return pandas.DataFrame()


def sessions_of(folder):
    return json.loads((folder / "environment.json").read_text())["sessions"]


def exact(folder):
    """Point by point, what may not depend on the run."""
    return rows_of(folder).drop(columns=MEASURED).sort_values(["point", "variant"]).reset_index(drop=True)


def shard(folder, index):
    return folder / f"shard-{index}-of-{NODES}"


def start(cluster, folder, gate):
    return subprocess.Popen([PROGRAM, "slurm", "--nodes", str(NODES), *SWEEP, "--no-report", "--out", str(folder)],
                            env={**cluster.environment, "ATTN_TEST_GATE": str(gate)}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def test_a_node_dies_and_the_merged_campaign_is_that_of_one_machine(cluster, tmp_path):
    alone, folder, gate = tmp_path / "alone", tmp_path / "out", tmp_path / "gate"
    attnbench("sweep", *SWEEP, "--no-report", "--out", alone)
    gate.touch()  # points with a mask wait for it to go; every shard has some without
    campaign = start(cluster, folder, gate)
    slurm_cluster.wait_for(lambda: all(len(rows_of(shard(folder, k))) > 0 for k in range(NODES)), "first rows of every shard")
    job = (folder / "slurm.job").read_text().strip()
    placed = dict(line.split() for line in cluster.command("squeue", "-h", "-r", "-j", job, "-o", "%K %N").splitlines())
    assert set(placed.values()) == set(cluster.nodes)  # a node each
    victim = placed["1"]
    before = (shard(folder, 1) / "results.csv").read_text()
    assert 0 < len(rows_of(shard(folder, 1))) < len(rows_of(alone)) / NODES

    cluster.kill_node(victim)
    pending = slurm_cluster.wait_for(
        lambda: cluster.command("squeue", "-h", "-r", "-j", job, "-t", "PENDING", "-o", "%K").split(), "requeued task")
    assert pending == ["1"]
    assert campaign.poll() is None
    cluster.start_node(victim)
    slurm_cluster.wait_for(lambda: len(sessions_of(shard(folder, 1))) == 2, "task that goes on")
    gate.unlink()
    output = campaign.communicate(timeout=600)[0]
    assert campaign.returncode == 0, output
    assert "1 PENDING, 2 RUNNING" in output

    assert len(exact(folder)) == len(exact(alone)) == 24
    pandas.testing.assert_frame_equal(exact(folder), exact(alone))
    after = (shard(folder, 1) / "results.csv").read_text()
    assert after.startswith(before) and len(after) > len(before)  # nothing measured is lost, nothing is measured twice
    assert "rows are there already" in (folder / "slurm-1.log").read_text()
    sessions = sessions_of(folder)
    assert len(sessions) == NODES + 1 and {session["node"] for session in sessions} <= set(cluster.nodes)
    assert set(rows_of(folder)["node"]) <= set(cluster.nodes)
    samples = pandas.read_csv(folder / "samples.csv").groupby(["point", "variant"]).size()
    assert samples.sum() == rows_of(folder)["samples"].sum()
    assert (folder / "fits.csv").is_file()


def test_the_same_command_waits_for_its_job_and_measures_nothing_twice(cluster, tmp_path):
    folder, gate = tmp_path / "out", tmp_path / "gate"
    gate.touch()
    first = start(cluster, folder, gate)
    slurm_cluster.wait_for(lambda: len(rows_of(shard(folder, 0))) > 0, "first rows")
    first.terminate()
    output = first.communicate(timeout=120)[0]
    assert first.returncode == 143 and "goes on" in output
    second = start(cluster, folder, gate)
    gate.unlink()
    output = second.communicate(timeout=600)[0]
    assert second.returncode == 0, output
    assert len(rows_of(folder)) == 24
    results = (folder / "results.csv").read_bytes()
    third = start(cluster, folder, gate)
    output = third.communicate(timeout=600)[0]
    assert third.returncode == 0 and (folder / "results.csv").read_bytes() == results, output


def test_what_sbatch_refuses_is_one_line(cluster, tmp_path):
    done = subprocess.run([PROGRAM, "slurm", "--nodes", "2", *SWEEP, "--sbatch=--partition=nowhere", "--out", tmp_path / "out"],
                          env=cluster.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "partition" in done.stderr, done.stderr


def test_without_slurm_one_line_says_what_to_do(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("sh", "bash"):
        os.symlink(f"/bin/{name}", tmp_path / "bin" / name)
    done = subprocess.run([PROGRAM, "slurm", "--nodes", "2", *SWEEP, "--out", tmp_path / "out"], capture_output=True, text=True,
                          env={**os.environ, "PATH": str(tmp_path / "bin")}, timeout=120, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "--shard" in done.stderr, done.stderr
