"""Rates and ratios of a campaign on a GPU, from synthetic rows: the figure, ratios.csv, the tables of text and Markdown."""

import csv
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plots"), str(ROOT / "harness/gpu_day")]

import day_summary
import ratios

RATES = {"flash/cuda/mma": 3.5e14, "peers/torch/cuda/cudnn": 6e14, "peers/torch/cuda/flash": 3.6e14}
ROOF = 8e14
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
ROUNDS = 20


def gpu_rows():
    """(rows of results.csv, of samples.csv): 16384 tokens, one head width and mask after another, two processes."""
    noise, results, samples = random.Random(3), [], []
    for head in (64, 128):
        for mask in ("none", "causal"):
            for n in LENGTHS:
                batch, h = 16384 // n, 2048 // head
                problem = f"b={batch},hq={h},hk={h},nq={n},nk={n},d={head},dv={head},dtype=bf16,pass=fwd,mask={mask},pos=none"
                flops = 4 * batch * h * n * n * head / (1 if mask == "none" else 2)
                for variant, rate in RATES.items():
                    times = [flops / rate * (1 + 0.01 * noise.random()) for _ in range(ROUNDS)]
                    results.append({"schema": 5, "point": problem, "variant": variant, "family": "dense", "device": "cuda", "status": "ok",
                                    "problem": problem, "scope": "core", "pass": "fwd", "dtype": "bf16", "batch": batch, "heads_q": h,
                                    "heads_kv": h, "seq_q": n, "seq_kv": n, "d_model": 2048, "d_head": head, "d_value": head, "mask": mask,
                                    "position": "none", "threads": 1, "time_s_median": sorted(times)[10], "time_s_ci_low": sorted(times)[5],
                                    "time_s_ci_high": sorted(times)[14], "flops_per_s": flops / sorted(times)[10],
                                    "roof_fraction": rate / ROOF, "bound": "compute", "reason": ""})
                    samples += [{"point": problem, "variant": variant, "process": k % 2, "round": k // 2, "sample": k, "time_s": time,
                                 "cache": "cold"} for k, time in enumerate(times)]
                    samples.append({**samples[-1], "time_s": times[0] / 9, "cache": "hot"})
    results.append({**results[-1], "variant": "flash/cuda/simt", "status": "crashed", "reason": "exception: no luck", "flops_per_s": ""})
    return results, samples


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
    results, samples = gpu_rows()
    write(tmp_path / "results.csv", results)
    write(tmp_path / "samples.csv", samples)
    return tmp_path


def test_an_interval_of_order_statistics():
    assert ratios.interval([1] * 5) is None
    assert ratios.interval([3, 1, 2, 6, 5, 4]) == (1, 6)
    assert ratios.interval(list(range(100))) == (39, 60)  # the 40th and the 61st: 95.4 %


def test_a_ratio_is_paired_and_holds_both_processes():
    own = {(process, number): 1.0 for process in (0, 1) for number in range(10)}
    other = {(process, number): 2.0 + process for process in (0, 1) for number in range(10)}
    assert ratios.compare(own, other) == (2.5, 2.0, 3.0, 20)
    assert ratios.compare(own, {}) is None


def test_ratios_of_a_campaign(folder):
    rows = ratios.write(folder)
    assert len(rows) == 2 * 2 * len(LENGTHS) * 2
    for row in csv.DictReader(open(folder / "ratios.csv", encoding="utf-8")):
        assert row["variant"] == "flash/cuda/mma" and row["rounds"] == str(ROUNDS)
        truth = RATES["flash/cuda/mma"] / RATES[row["peer"]]
        assert float(row["ratio_ci_low"]) <= float(row["ratio"]) <= float(row["ratio_ci_high"])
        assert float(row["ratio"]) == pytest.approx(truth, rel=0.01)  # a sample on warm caches would be nine times off


def test_nothing_is_written_without_peers(folder):
    rows = [row for row in ratios.read_csv(folder / "results.csv") if row["variant"] == "flash/cuda/mma"]
    write(folder / "results.csv", rows)
    assert ratios.write(folder) == [] and not (folder / "ratios.csv").exists()


def test_replays_have_their_latencies_in_the_tables(folder):
    results, samples = ratios.read_csv(folder / "results.csv"), ratios.read_csv(folder / "samples.csv")
    for row in results:
        row.update(launch="graph", latency_s_median="1.25e-05", latency_graph_s_median="9e-06" if row["seq_q"] == "4096" else "")
    lines = dict(day_summary.tables_of(results, samples)[0][2])
    found = dict(zip(LENGTHS, lines["flash/cuda/mma alone"]))
    assert found[4096] == "12.5 / 9.0 us" and found[1024] == "12.5 us"
    for row in results:
        row["launch"] = "stream"
    assert "flash/cuda/mma alone" not in dict(day_summary.tables_of(results, samples)[0][2])


def test_tables_of_text_and_markdown(folder):
    tables = day_summary.tables_of(ratios.read_csv(folder / "results.csv"), ratios.read_csv(folder / "samples.csv"))
    assert len(tables) == 4
    title, lengths, lines = tables[2]
    assert title == "bf16, forward, d = 128, no mask, h·d = 2048, b·n = 16384" and lengths == list(LENGTHS)
    cells = dict(lines)
    assert cells["flash/cuda/mma"][0].startswith("34") and cells["flash/cuda/mma"][0].endswith("(44 %)")
    assert cells["flash/cuda/mma against torch/cudnn"][0].startswith("0.58 [")
    done = subprocess.run([sys.executable, ROOT / "harness/gpu_day/day_summary.py", folder, "--markdown"], capture_output=True, text=True,
                          check=True)
    assert "| `flash/cuda/mma` | 34" in done.stdout
    assert done.stdout.count("| --- |") == 4


def test_the_machine_in_words(folder):
    assert day_summary.machine(folder) == []
    (folder / "environment.json").write_text('{"gpu": null, "roofs": {"gpu": null}, "libraries": {"fmt": "9.1"}}')
    assert day_summary.machine(folder) == []
    (folder / "environment.json").write_text('{"gpu": {"name": "a card"}, "roofs": {"gpu": {"gemm_bf16_flops_per_s": 7.5e14, "exp2f_per_s": '
                                             'null}}, "libraries": {"peers/cudnn/cuda": "9.19.0"}}')
    assert day_summary.machine(folder) == ["a card", "peers/cudnn/cuda 9.19.0", "roof gemm_bf16_flops_per_s: 750 T"]


def test_the_figure_has_a_panel_per_setting(folder):
    import common
    import tokens

    common.set_style()
    (name, figure), = tokens.draw(common.Campaign(folder))
    assert name == "tokens"
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["causal, h = 32, d = 64", "causal, h = 16, d = 128", "no mask, h = 32, d = 64",
                                                    "no mask, h = 16, d = 128"]
    for axes in panels:
        curves = [line for line in axes.lines if len(line.get_xdata()) == len(LENGTHS) and line.get_marker() not in ("_", "None", "")]
        assert len(curves) == len(RATES)
        assert max(max(line.get_ydata()) for line in curves) == pytest.approx(600, rel=0.02)
    roofs = [line.get_ydata()[0] for axes in panels for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 2]
    assert roofs and all(roof == pytest.approx(ROOF / 1e12, rel=0.01) for roof in roofs)


def test_lengths_at_one_batch_are_no_such_sweep(folder):
    import common
    import tokens

    write(folder / "results.csv", [{**row, "batch": 1} for row in ratios.read_csv(folder / "results.csv")])
    assert tokens.draw(common.Campaign(folder)) == []


def test_the_ladder_has_a_bar_per_measured_rung(folder):
    import common
    import ladder

    common.set_style()
    assert ladder.draw(common.Campaign(folder)) == []  # one rung is no ladder
    rows = ratios.read_csv(folder / "results.csv")
    factors = {"flash/cuda/mma": 1, "flash/cuda/wgmma": 1.5, "flash/cuda/hopper": 2}
    rungs = [{**row, "variant": name, "flops_per_s": float(row["flops_per_s"]) * factor} for row in rows
             for name, factor in factors.items() if row["variant"] == "flash/cuda/mma" and row["status"] == "ok"]
    write(folder / "results.csv", rungs + [row for row in rows if row["variant"].startswith("peers/")])
    (name, figure), = ladder.draw(common.Campaign(folder))
    assert name == "ladder"
    assert [axes.get_title() for axes in figure.axes] == ["no mask", "causal"]
    for axes in figure.axes:
        said = [text.get_text() for text in axes.texts]
        measured = [int(text.split()[0]) for text in said if text != "not measured"]
        assert measured == pytest.approx([350, 525, 700], rel=0.02)
        assert said.count("not measured") == len(ladder.read_rungs()) - len(measured)
        peers = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2)
        assert peers == pytest.approx([360, 600], rel=0.02)
