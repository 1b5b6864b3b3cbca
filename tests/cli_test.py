"""The command line: help everywhere, every misuse is one line and exit code 2, the good cases work."""

import io
import json
import re
import shutil
import subprocess

import pandas
import pytest

import manual
from program import BUILD, PROGRAM, SOURCE, attnbench, run, usage_error

COMMANDS = manual.commands(PROGRAM)
SMALL = "hq=2,nq=9,d=8"
SMALL_CAMPAIGN = str(SOURCE / "tests/data/campaign_small")


def options_of(text):
    """(option, description) of a help text. Descriptions stand in one column, on the next line where the option is long."""
    lines, column = text.split("\n"), 30
    listed = []
    for line, following in zip(lines, lines[1:]):
        if not line.startswith("  -"):
            continue
        if following.strip() and not following[:column].strip():
            listed.append((line.strip(), following[column:]))
        else:
            listed.append((line[:column].strip(), line[column:] if line[column - 1:column] == " " else ""))
    return listed


def test_the_commands():
    assert set(COMMANDS) >= {"list", "check", "eval", "sweep", "fit", "report", "compare", "table", "export", "reproduce", "selftest", "env", "roofs", "gbench"}
    assert attnbench() == attnbench("--help") == attnbench("help")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", attnbench("--version"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    text = attnbench(command, "--help")
    assert attnbench("help", command) == text
    assert f"attnbench {command}" in text
    listed = options_of(text)
    assert ("-h,--help", "Print this help message and exit") in listed
    for option, description in listed:
        assert re.search(r"[a-z]{3}", description), f"{command} {option} has no description"


def test_the_manual_is_current():
    text = manual.MANUAL.read_text()
    assert manual.renewed(text, manual.manual(PROGRAM)) == text, "run tests/manual.py --write"


def test_a_missing_description_would_be_noticed():
    lines = ["Options:", f"{'  --a INT':30}an integer", f"  --long-one {'X' * 20} REQUIRED", f"{'':30}described", "  --bare",
             f"{'  --empty':30}", ""]
    assert [description for _, description in options_of("\n".join(lines))] == ["an integer", "described", "", ""]


@pytest.mark.parametrize("arguments", [
    ["nonsense"], ["help", "nonsense"], ["--nonsense"], ["two\nlines"],
    *([command, "--nonsense"] for command in COMMANDS),
    *([command, "left", "over"] for command in COMMANDS),
    ["list", "--format", "xml"], ["list", "--variants", "("], ["list", "--variants", "no such variant"],
    ["env", "--format", "xml"], ["roofs", "--format", "xml"], ["roofs", "--threads", "0"], ["roofs", "--threads", "many"],
    ["check", "--problem", "nq=0"], ["check", "--problem", "hq=3,hk=2"], ["check", "--fill", "nonsense"],
    ["check", "--variants", "no such variant"], ["check", "--threads", "0"], ["check", "--seed", "-1"],
    ["sweep", "--preset", "nonsense"], ["sweep", "--n", "0"], ["sweep", "--n", "8:4"], ["sweep", "--n", "1:1e18:1"],
    ["sweep", "--mask", "nonsense"], ["sweep", "--pos", "shaw"], ["sweep", "--dtype", "f64"],
    ["sweep", "--variants", "no such variant"], ["sweep", "--baseline", "no such variant"], ["sweep", "--threads", "0"],
    ["sweep", "--budget", "-1"], ["sweep", "--seed", "-1"],
    ["fit"], ["fit", "no/such/folder"], ["report"], ["report", "no/such/folder"],
    ["selftest"], ["selftest", "--coverage", "--trials", "0"], ["selftest", "--aa", "--runs", "1"],
    ["selftest", "--aa", "--variants", "no such variant"],
    ["compare"], ["compare", "no/such/folder", "no/such/folder"], ["compare", "a", "b", "--threshold", "-1"],
    ["table"], ["table", "no/such/folder"], ["table", SMALL_CAMPAIGN, "--format", "word"],
    ["table", SMALL_CAMPAIGN, "--format", "csv"], ["export", SMALL_CAMPAIGN], ["export", "no/such/folder", "--pgfplots"],
    ["reproduce"], ["reproduce", "no/such/folder"], ["reproduce", SMALL_CAMPAIGN],
    ["gbench", "--benchmark_nonsense"], ["gbench", "--problem", "nq=0"], ["gbench", "--variants", "no such variant"],
    ["eval"], ["eval", "--variant", "oracle"],
], ids=lambda words: " ".join(words).replace(str(SOURCE), "") or "nothing")
def test_misuse_is_one_line_and_exit_code_2(arguments, tmp_path):
    usage_error(*arguments, cwd=tmp_path, timeout=30)
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


def test_list_names_the_variants_of_every_built_file():
    """The program says what its files register, variants/README.md what they should."""
    built = (BUILD / "build.ninja").read_text()
    readme = (SOURCE / "variants" / "README.md").read_text()
    files = dict(re.findall(r"^\| `(\S+)` \|.*\[\S+\]\((\S+)\) \|$", readme, re.MULTILINE))
    added = re.findall(r"attn_add_variant\((\S+)\)", (SOURCE / "variants" / "CMakeLists.txt").read_text())
    assert set(added) <= set(files.values()), "variants/README.md lacks a file"
    # Built without CUDA, or without the library of a peer, a file is not there.
    expected = {name for name, file in files.items() if f"variants/{file}" in built}
    peers = set(re.findall(r"`(peers/\S+)`", (SOURCE / "variants" / "peers" / "README.md").read_text()))
    listed = set(pandas.read_csv(io.StringIO(attnbench("list", "--format", "csv")))["name"])
    assert expected <= listed, "variants/README.md names a variant that its file does not register"
    assert listed <= expected | peers, "neither variants/README.md nor that of the peers has the variant"
    table = attnbench("list")
    assert all(name in table for name in listed)


def test_list_by_expression():
    listed = pandas.read_csv(io.StringIO(attnbench("list", "--format", "csv", "--variants", "^reference/")))
    assert list(listed["name"]) == ["reference/cpu"]


def test_env():
    assert json.loads(attnbench("env", "--format", "json"))
    assert attnbench("env").strip()


def test_roofs():
    roofs = json.loads(attnbench("roofs", "--format", "json", "--threads", "1"))
    levels = set(roofs["by_threads"][0]["level_bytes"])
    assert roofs["by_threads"][0]["threads"] == 1 and "DRAM" in levels
    for entry in roofs["by_threads"]:
        assert entry["fma_f32_flops_per_s"] > 0 and entry["exp_f32_per_s"] > 0
        assert entry["sgemm_flops_per_s"] > 0
        for name in ("level_bytes", "read_bytes_per_s", "copy_bytes_per_s"):
            assert set(entry[name]) == levels and all(value > 0 for value in entry[name].values())
    table = attnbench("roofs")
    assert all(f"read {level}" in table and f"copy {level}" in table for level in levels)


def test_check_of_one_problem():
    assert "reference/cpu" in attnbench("check", "--variants", "reference/cpu", "--problem", SMALL)


def test_gbench_is_google_benchmark():
    text = attnbench("gbench", "--variants", "reference/cpu", "--problem", SMALL, "--benchmark_format=json",
                     "--benchmark_min_time=0.01")
    results = json.loads(text)["benchmarks"]
    assert len(results) == 1 and "reference/cpu" in results[0]["name"] and results[0]["real_time"] > 0


def test_sweep_fit_and_report(tmp_path):
    folder = tmp_path / "a campaign"
    attnbench("sweep", "--variants", "reference/cpu|textbook/cpu", "--n", "16,32,64,128", "--d", "32", "--h", "2",
              "--budget", "0.5", "--no-report", "--out", folder)
    rows = pandas.read_csv(folder / "results.csv")
    assert len(rows) == 8 and set(rows["status"]) == {"ok"} and (rows["time_s_median"] > 0).all()
    attnbench("fit", folder)
    assert set(pandas.read_csv(folder / "fits.csv")["variant"]) == {"reference/cpu", "textbook/cpu"}
    attnbench("report", folder)
    assert "reference/cpu" in (folder / "report.html").read_text()


def changed_campaign(folder, change):
    """A copy of the small campaign with changed rows."""
    shutil.copytree(SMALL_CAMPAIGN, folder)
    rows = pandas.read_csv(folder / "results.csv", keep_default_na=False, dtype=str)
    change(rows)
    rows.to_csv(folder / "results.csv", index=False, lineterminator="\n")
    return folder


def slow_down(rows):
    for column in ("time_s_median", "time_s_ci_low", "time_s_ci_high", "time_s_min"):
        which = (rows["variant"] == "tiled/synthetic") & (rows[column] != "")
        rows.loc[which, column] = (1.5 * rows.loc[which, column].astype(float)).map(repr)


def test_compare(tmp_path):
    same = attnbench("compare", SMALL_CAMPAIGN, SMALL_CAMPAIGN, "--csv", tmp_path / "same.csv")
    assert "0 slower, 0 faster" in same
    table = pandas.read_csv(tmp_path / "same.csv")
    timed = table[table["ratio"].notna()]
    assert len(timed) > 20 and (timed["ratio"] == 1).all() and set(timed["verdict"]) <= {"same", "unclear"}
    slower = changed_campaign(tmp_path / "slower", slow_down)
    done = run("compare", SMALL_CAMPAIGN, slower)
    assert done.returncode == 1 and re.search(r"^slower +tiled/synthetic +1\.5 ", done.stdout, re.MULTILINE)
    assert not re.search(r"^slower +(?!tiled| )", done.stdout, re.MULTILINE)
    done = run("compare", slower, SMALL_CAMPAIGN)
    assert done.returncode == 0 and re.search(r"^faster +tiled/synthetic", done.stdout, re.MULTILINE)


def test_compare_refuses_another_machine(tmp_path):
    other = changed_campaign(tmp_path / "other", lambda rows: None)
    environment = json.loads((other / "environment.json").read_text())
    environment["cpu"]["model"] = "another"
    (other / "environment.json").write_text(json.dumps(environment))
    assert "the CPU differs" in usage_error("compare", SMALL_CAMPAIGN, other)
    assert "forced: the CPU differs" in attnbench("compare", SMALL_CAMPAIGN, other, "--force")


def test_compare_lists_what_is_in_one_alone(tmp_path):
    fewer = changed_campaign(tmp_path / "fewer", lambda rows: rows.drop(rows.index[rows["seq_q"] == "128"], inplace=True))
    text = attnbench("compare", SMALL_CAMPAIGN, fewer)
    assert f"only in {SMALL_CAMPAIGN}: " in text and "only in " + str(fewer) not in text


def test_table_and_export(tmp_path):
    for what in ("time", "memory", "exponents"):
        table = pandas.read_csv(io.StringIO(attnbench("table", SMALL_CAMPAIGN, "--format", "csv", "--what", what)))
        assert len(table) > 5
    latex = attnbench("table", SMALL_CAMPAIGN, "--format", "latex")
    assert latex.count("\\begin{table}") == latex.count("\\end{table}") > 3
    assert attnbench("table", SMALL_CAMPAIGN).count("\n| --- |") + attnbench("table", SMALL_CAMPAIGN).count("\n| ---: |") > 3
    text = attnbench("export", SMALL_CAMPAIGN, "--pgfplots", "--out", tmp_path / "figures")
    assert str(tmp_path / "figures/time_vs_n.tex") in text.split("\n") and (tmp_path / "figures/time_vs_n_1.dat").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_the_latex_compiles(tmp_path):
    attnbench("export", SMALL_CAMPAIGN, "--pgfplots", "--out", tmp_path)
    tables = attnbench("table", SMALL_CAMPAIGN, "--format", "latex")
    (tmp_path / "tables.tex").write_text("\\documentclass{article}\n\\usepackage{booktabs,siunitx}\n\\usepackage[margin=1cm]"
                                         "{geometry}\n\\begin{document}\n" + tables + "\\end{document}\n")
    for name in ("tables.tex", "time_vs_n.tex", "memory_vs_n.tex"):
        done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name], cwd=tmp_path,
                              capture_output=True, text=True, errors="replace", timeout=300)
        assert done.returncode == 0, done.stdout[-2000:]


def test_reproduce(tmp_path):
    """That it measures the same plan and judges it; whether two short campaigns agree is the machine's business."""
    attnbench("sweep", "--variants", "reference/cpu|textbook/cpu", "--n", "16,32,64", "--d", "32", "--h", "2", "--budget", "0.05",
              "--no-report", "--out", tmp_path / "first")
    done = run("reproduce", tmp_path / "first")
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.splitlines()[-1] == ("reproduced" if done.returncode == 0 else "not reproduced")
    assert re.search(r"^status +6 agree, +0 differ", done.stdout, re.MULTILINE)
    first, again = (pandas.read_csv(tmp_path / name / "results.csv") for name in ("first", "first-reproduced"))
    assert set(zip(first["point"], first["variant"])) == set(zip(again["point"], again["variant"]))


def test_a_dry_run_writes_nothing(tmp_path):
    text = attnbench("sweep", "--variants", "reference/cpu", "--n", "16,32", "--dry-run", "--out", tmp_path / "out")
    assert "reference/cpu" in text and not list(tmp_path.iterdir())


def test_a_dry_run_says_memory_time_and_where_its_rates_come_from(tmp_path):
    words = ("sweep", "--variants", "^(reference|flash)/cpu$", "--n", "64,128", "--threads", "1", "--dry-run", "--out", tmp_path / "out")
    number = r"[0-9.e+]+ (B|KiB|MiB) +[0-9.e+]+ (us|ms|s){} +[0-9.e+]+ (ms|s)  b=1,"
    probed, roofs = attnbench(*words), attnbench(*words, "--rates", "roof")
    for text, mark, source in ((probed, "", "rates from a probe of 2 calls\n"), (roofs, r"\*", "; * 4 at the roof")):
        assert len(re.findall("^(reference|flash)/cpu +" + number.format(mark), text, re.MULTILINE)) == 4, text
        assert source in text and re.search(r"^ETA [0-9.]+ (ms|s): from .* to ", text, re.MULTILINE), text
    assert "* 4 at" not in probed


@pytest.mark.parametrize("folder", ["no/such/folder", "."])
def test_rates_need_a_campaign(folder, tmp_path):
    said = usage_error("sweep", "--n", "16", "--rates", folder, "--dry-run", cwd=tmp_path)
    assert "--rates" in said and "probe, roof, or the folder" in said


def test_the_frontier_of_a_campaign(tmp_path):
    attnbench("sweep", "--variants", "^(reference|textbook)/cpu$", "--n", "16", "32", "--threads", "1", "--budget", "0.02",
              "--no-report", "--out", tmp_path / "campaign")
    assert "largest_n_checked" in attnbench("fit", tmp_path / "campaign")
    frontier = pandas.read_csv(tmp_path / "campaign" / "frontier.csv")
    assert list(frontier.columns) == ["variant", "setting", "device", "memory_bytes", "is_limit", "largest_n", "limited_by",
                                      "bytes", "time_s_predicted", "largest_n_checked", "largest_n_measured"]
    assert len(frontier) == 2 * 7 and list(frontier["is_limit"]).count("yes") == 2
    assert (frontier["largest_n_measured"] == 32).all() and (frontier["time_s_predicted"] > 0).all()
    assert (frontier["bytes"] <= frontier["memory_bytes"]).all()
    assert (frontier["largest_n_checked"] <= frontier["largest_n"]).all()
    grown = frontier.sort_values("memory_bytes").groupby(["variant", "setting"])["largest_n"]
    assert all(lengths.is_monotonic_increasing for _, lengths in grown)


def test_failures_that_are_not_the_users_exit_with_1(tmp_path):
    """A full disk, say."""
    import numpy

    for name in "qkv":
        numpy.save(tmp_path / f"{name}.npy", numpy.ones((1, 2, 1, 4), "float32"))
    done = run("eval", "--variant", "reference/cpu", *(w for n in "qkv" for w in (f"--{n}", tmp_path / f"{n}.npy")), "--out",
               "/dev/full")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "/dev/full" in done.stderr
