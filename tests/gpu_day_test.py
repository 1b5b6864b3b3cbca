"""The command of a GPU day, tried on the CPU with the program that has misbehaving variants."""

import csv
import json
import re
import subprocess
import sys
import tarfile

import pytest

from program import PROGRAM, SOURCE

SCRIPT = SOURCE / "harness/gpu_day/gpu_day.py"
sys.path.insert(0, str(SCRIPT.parent))
SMALL = """description = "small"
baseline = "{baseline}"
budget = 0.02
processes = 1
[[sweep]]
n = [8, 16, 24, 32]
batch = 2
d = 32
h = 2
variants = "{variants}"
"""


def day(*arguments, **keywords):
    return subprocess.run([sys.executable, SCRIPT, "--program", PROGRAM, *map(str, arguments)], capture_output=True, text=True,
                          timeout=600, check=False, **keywords)


@pytest.fixture(name="preset")
def fixture_preset(tmp_path):
    def write(variants, baseline="reference/cpu"):
        path = tmp_path / "small.toml"
        path.write_text(SMALL.format(variants=variants, baseline=baseline))
        return path
    return write


def unpacked(out):
    with tarfile.open(out / "day.tar.gz") as packed:
        return {name: packed.extractfile(name).read().decode() for name in packed.getnames() if packed.getmember(name).isfile()}


def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    done = day(tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"attnbench: gpu-day needs a GPU: .+\n", done.stderr)
    assert not (tmp_path / "out").exists()


def test_minutes_must_be_positive(tmp_path):
    done = day(tmp_path / "out", "--minutes", 0)
    assert done.returncode == 2 and done.stderr == "attnbench: --minutes 0 must be greater than 0\n"


def test_a_dry_run_lists_the_points_in_order(tmp_path, preset):
    done = day(tmp_path / "out", "--dry-run", "--device", "cpu", "--preset", preset("^reference/cpu$"))
    assert done.returncode == 0, done.stderr
    lengths = [int(length) for length in re.findall(r"nq=(\d+)", done.stdout)]
    assert lengths == [8, 16, 24, 32]
    assert "estimated" in done.stdout and not (tmp_path / "out").exists()


def test_a_preset_whose_baseline_this_build_lacks_has_another(tmp_path, preset):
    path = preset("^reference/cpu$", baseline="peers/of/nobody")
    done = day(tmp_path / "out", "--dry-run", "--device", "cpu", "--preset", path)
    assert done.returncode == 0 and "nq=32" in done.stdout, done.stderr


def test_a_day_is_checked_measured_packed_and_goes_on(tmp_path, preset):
    out = tmp_path / "out"
    arguments = (out, "--device", "cpu", "--preset", preset("^reference/cpu$"), "--variants", "^reference/cpu$", "--quick")
    done = day(*arguments, "--minutes", 5)
    assert done.returncode == 0, done.stdout + done.stderr
    files = unpacked(out)
    rows = list(csv.DictReader(files["small/results.csv"].splitlines()))
    assert [row["status"] for row in rows] == ["ok"] * 4
    matrix = list(csv.DictReader((out / "correctness.csv").read_text().splitlines()))
    assert {(row["type"], row["suite"]) for row in matrix} == {(t, "quick") for t in ("f32", "bf16", "f16")}
    assert all(row["verdict"] == "ok" for row in matrix) and sum(int(row["cases"]) for row in matrix) > 200
    assert len(list(out.iterdir())) <= 8 and sum(path.stat().st_size for path in out.iterdir()) < 10 << 20
    assert "reference/cpu" in (out / "summary.txt").read_text()

    # Only OUT was carried to the next day: nothing is checked or measured twice.
    for path in sorted((tmp_path / "out.work").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "out.work").rmdir()
    again = day(*arguments, "--minutes", 5)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "every row has been measured" in again.stdout
    assert unpacked(out)["small/results.csv"] == files["small/results.csv"]


def test_a_short_day_stops_by_the_clock(tmp_path, preset):
    out = tmp_path / "out"
    done = day(out, "--device", "cpu", "--preset", preset("^reference/cpu$"), "--variants", "^reference/cpu$", "--minutes", 0.42)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "incomplete" in done.stdout
    assert json.loads(unpacked(out)["state.json"])["program"]


def test_a_wrong_variant_is_loud_and_the_rest_goes_on(tmp_path, preset):
    out = tmp_path / "out"
    pattern = "^(reference/cpu|faulty/wrong)$"
    done = day(out, "--device", "cpu", "--preset", preset(pattern), "--variants", pattern, "--quick", "--minutes", 5)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CHECK FAILED: faulty/wrong in f32" in done.stdout
    repro = re.search(r"rerun: attnbench (check --variants '\^faulty/wrong\$' .*)", done.stdout)
    assert repro, done.stdout
    rows = list(csv.DictReader(unpacked(out)["small/results.csv"].splitlines()))
    assert {row["status"] for row in rows if row["variant"] == "reference/cpu"} == {"ok"}
    assert {row["status"] for row in rows if row["variant"] == "faulty/wrong"} == {"disagrees"}
    assert "FAILED: attnbench check" in (out / "summary.txt").read_text()


def test_the_presets_of_the_day_are_plans():
    """Also where no GPU is: their points, asked for with a variant that every build has."""
    for preset, folder, least, tokens in (("gpu-day", None, 70, {16384}), (str(SCRIPT.parent / "blocks.toml"), SCRIPT.parent, 1, {16384}),
                                          (str(SCRIPT.parent / "graphs.toml"), None, 16, {512, 1024})):
        done = subprocess.run([PROGRAM, "plan", "--preset", preset, "--device", "cpu", "--variants", "^reference/cpu$", "--baseline",
                               "reference/cpu", "--launch", "stream"], capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr
        rows = list(csv.DictReader(done.stdout.splitlines()))
        assert len(rows) >= least
        for row in rows:
            fields = dict(field.split("=", 1) for field in row["problem"].split(","))
            assert int(fields["nq"]) <= 64 or int(fields["b"]) * int(fields["nq"]) in tokens  # or a long cache
            assert int(fields["hq"]) * int(fields["dv"]) in (2048, 4096)
            assert fields["d"] == fields["dv"] or (fields["d"], fields["dv"]) == ("192", "128")
        assert "dtype=bf16" in rows[0]["problem"]


RACES = """========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at attn::bulk_load(unsigned int, const void *)+0x90 in hopper.cuh:148
=========     and Read access at attn::Consumer::weigh()+0x23b0 in flash_hopper_gradient.cuh:418 [512 hazards]
{more}========= RACECHECK SUMMARY: {count} hazards displayed ({errors} errors, 0 warnings)
"""


@pytest.mark.parametrize("tool, more, count, errors, blind", [
    ("racecheck", "", 1, 1, True),
    ("memcheck", "", 1, 1, False),
    ("racecheck", "", 1, 2, False),  # one was not shown
    ("racecheck", "========= Error: Race reported between Write access at attn::weigh()+0x4\n", 2, 2, False),
])
def test_races_of_bulk_copies_alone_are_none(tool, more, count, errors, blind):
    import checks

    assert checks.is_blind(tool, RACES.format(more=more, count=count, errors=errors)) == blind
    assert not checks.is_blind(tool, "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n")
