"""The figure scripts and the report on a small synthetic campaign (tests/data/synthetic_campaign.py)."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["time_vs_n", "time_vs_d", "time_vs_h", "memory_vs_n", "flops", "crossover_map", "error_vs_n", "agreement",
           "heads"]
GRID_SETTING = "b=1,hq={h},hk={h},d={d},dv={d},dtype=f32,pass=fwd,mask=none,pos=none,threads=2"
SIGNATURES = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def run(script, folder):
    return subprocess.run([sys.executable, ROOT / "plots" / f"{script}.py", folder], capture_output=True, text=True,
                          env=ENVIRONMENT)


def copy_campaign(folder):
    shutil.copytree(ROOT / "tests/data/campaign_small", folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A campaign whose report has been drawn."""
    folder = copy_campaign(tmp_path_factory.mktemp("campaign"))
    done = run("report", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_runs_alone(script, tmp_path):
    folder = copy_campaign(tmp_path)
    done = run(script, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for kind, signature in SIGNATURES.items():
        content = (folder / "figures" / f"{script}.{kind}").read_bytes()
        assert content.startswith(signature)
        assert len(content) > 5000


def test_same_rows_give_the_same_bytes(reported, tmp_path):
    folder = copy_campaign(tmp_path)
    run("time_vs_n", folder)
    for kind in SIGNATURES:
        name = f"figures/time_vs_n.{kind}"
        assert (folder / name).read_bytes() == (reported / name).read_bytes()


def test_figures_have_paper_width(reported):
    for path in (reported / "figures").glob("*.svg"):
        width_in = float(re.search(r'width="([\d.]+)pt"', path.read_text()).group(1)) / 72
        assert 3.39 <= width_in <= 7.01, path.name


def test_every_curve_of_the_sweep_is_drawn(reported):
    """The legend's texts are paths in the SVG; the PDF keeps them as text of embedded fonts, so ask the script."""
    sys.path.insert(0, str(ROOT / "plots"))
    import common
    import time_vs_n

    common.set_style()
    campaign = common.Campaign(reported)
    figures = time_vs_n.draw(campaign)
    texts = [text.get_text() for _, figure in figures for text in figure.legends[0].get_texts()]
    assert set(campaign.variants) <= set(texts)
    titles = [axes.get_title() for _, figure in figures for axes in figure.axes]
    assert any("causal+window:255:0" in title for title in titles)
    assert any("backward" in title for title in titles)


def test_labels_do_not_overlap(reported):
    sys.path.insert(0, str(ROOT / "plots"))
    import common
    import memory_vs_n
    import time_vs_n

    common.set_style()
    campaign = common.Campaign(reported)
    for script in (time_vs_n, memory_vs_n):
        for _, figure in script.draw(campaign):
            figure.canvas.draw()
            for axes in figure.axes:
                boxes = [text.get_window_extent().shrunk(0.95, 0.8) for text in axes.texts]
                for i, box in enumerate(boxes):
                    assert not any(box.overlaps(other) for other in boxes[i + 1:]), axes.get_title()


class Report(HTMLParser):
    """Sortable tables by name: column names, and rows of exact texts; and every attribute that could load something."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.links, self.rows, self.exact, self.shown = {}, [], None, None, ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("src", "href", "data") if attributes.get(name)]
        if tag == "table":
            name = attributes.get("data-name")
            self.rows = self.tables.setdefault(name, []) if name else None
        elif tag == "tr" and self.rows is not None:
            self.rows.append([])
            self.more = json.loads(attributes.get("data-more", "[]"))
        elif tag == "th" and self.rows is not None:
            self.rows[-1].append(attributes["data-column"])
        elif tag == "td":
            self.exact, self.shown = attributes.get("title"), ""

    def handle_data(self, data):
        self.shown += data

    def handle_endtag(self, tag):
        if tag == "td" and self.rows is not None:
            self.rows[-1].append(self.shown.strip() if self.exact is None else self.exact)
        elif tag == "tr" and self.rows is not None:
            self.rows[-1] += self.more
        elif tag == "table":
            self.rows = None

    def frame(self, name):
        header, *rows = self.tables[name]
        return pd.DataFrame(rows, columns=header)


def test_report_is_self_contained(reported):
    html = (reported / "report.html").read_text()
    links = Report(html).links
    assert len([link for link in links if link.startswith("data:image/svg+xml;base64,")]) >= len(SCRIPTS)
    assert all(link.startswith(("#", "data:", "figures/")) for link in links)
    assert not re.search(r"https?://|url\(|@import", html)


def test_report_shows_all_rows(reported):
    """Every field of every row, exactly as in the files."""
    report = Report((reported / "report.html").read_text())
    for name in ("results", "fits", "crossovers"):
        original = pd.read_csv(reported / f"{name}.csv", dtype=str, keep_default_na=False)
        table = report.frame(f"{reported.name}-{name}")[list(original.columns)]
        assert sorted(map(tuple, table.values)) == sorted(map(tuple, original.values))
    refused, failed = (report.frame(f"{reported.name}-{name}") for name in ("unsupported", "failures"))
    assert set(refused.status) == {"unsupported"} and set(failed.status) == {"timed_out", "out_of_memory", "disagrees"}
    assert len(refused) + len(failed) == (pd.read_csv(reported / "results.csv").status != "ok").sum()


@pytest.fixture
def rendered(tmp_path):
    """A function that renders the report of a changed copy of the campaign, without its figures."""
    sys.path.insert(0, str(ROOT / "plots"))
    import common
    import report

    def render(change):
        folder = copy_campaign(tmp_path / "campaign")
        results = pd.read_csv(folder / "results.csv", keep_default_na=False, dtype=str)
        change(folder, results)
        results.to_csv(folder / "results.csv", index=False)
        html = report.render(common.Campaign(folder), [], [])
        return html, Report(html)

    return render


def test_forecasts_are_held_against_the_measurement(rendered):
    def change(_, results):
        ok = results.status == "ok"
        results["time_s_predicted"] = [repr(float(text) * 1.5) if text else "" for text in results.time_s_median]
        results["memory_process_predicted_bytes"] = results.memory_process_peak_bytes.where(ok, "")

    _, report = rendered(change)
    table = report.frame("campaign-predictions")
    assert set(table.variant) == {"plain/synthetic", "sparse/synthetic", "stored/synthetic", "tiled/synthetic"}
    assert all(abs(float(text) - 1.5) < 1e-9 for text in table.time_ratio_median)
    assert all(float(text) == 1 for text in table.memory_ratio_quartile_3)


def test_method_counts_what_the_rows_say(rendered):
    def change(_, results):
        ok = results.status == "ok"
        results["processes"] = ok.map({True: "2", False: ""})
        results["stop"] = ["budget" if index % 4 == 0 else "ratio" for index in range(len(results))]
        results["stop"] = results.stop.where(ok, "")
        change.budget = (results.stop == "budget").sum()

    html, _ = rendered(change)
    assert f"the budget was spent ({change.budget})" in html and "116 rows from 2 processes" in html
    assert f"{change.budget} of 116 rows stopped because the time budget was spent" in html.replace("\xa0", " ")


def test_other_tables_of_the_folder_are_shown(rendered):
    def change(folder, _):
        (folder / "frontier.csv").write_text("variant,mask,memory_bytes,largest_n\na,none,1073741824,4096\nb,causal,1073741824,\n")
        (folder / "terms.csv").write_text("variant,setting,term,time_s\na,not a setting,core,0.25\n")

    html, report = rendered(change)
    assert list(report.frame("campaign-frontier").largest_n) == ["4096", ""]
    assert list(report.frame("campaign-terms").time_s) == ["0.25"] and ">250.0<" in html


def test_html_in_a_reason_stays_text(rendered):
    def change(_, results):
        results.loc[results.status == "timed_out", "reason"] = '<script>alert("x")</script>'

    html, report = rendered(change)
    assert "<script>alert" not in html
    assert '<script>alert("x")</script>' in set(report.frame("campaign-failures").reason)


def test_numbers_are_shown_in_units():
    sys.path.insert(0, str(ROOT / "plots"))
    from tables import build

    frame = pd.DataFrame({"time_s_median": ["0.0123456", "1e-3", ""], "time_s_ci_low": ["0.012", "", ""],
                          "time_s_ci_high": ["0.013", "", ""], "memory_workspace_peak_bytes": ["1048576", "3145728", "0"],
                          "roof_fraction": ["0.5", "1", "nan"], "mask": ["none", "causal", "none"]})
    table = build("results", "Results", frame, ["mask", "time_s_median", "memory_workspace_peak_bytes", "roof_fraction"])
    by_name = {column.name: (column, [row.cells[index] for row in table.rows]) for index, column in enumerate(table.shown)}
    assert list(by_name) == ["mask", "time_s_median", "memory_workspace_peak_bytes", "roof_fraction"]
    assert [row.more for row in table.rows] == [["0.012", "0.013"], ["", ""], ["", ""]]
    column, cells = by_name["time_s_median"]
    assert column.label == "time (ms)" and [cell.shown for cell in cells] == ["12.35", "1.000", ""]
    assert cells[0].interval == "12.00, 13.00" and cells[0].exact == "0.0123456" and cells[1].interval == ""
    column, cells = by_name["memory_workspace_peak_bytes"]
    assert column.label == "workspace (MiB)" and [cell.shown for cell in cells] == ["1.000", "3.000", "0"]
    assert [cell.shown for cell in by_name["roof_fraction"][1]] == ["50.0", "100.0", "nan"]
    assert by_name["mask"][0].choices


def test_absent_data_are_skipped_and_listed(tmp_path):
    folder = copy_campaign(tmp_path)
    results = pd.read_csv(folder / "results.csv", keep_default_na=False)
    results[(results.seq_q == "512") | (results.seq_q == 512)].to_csv(folder / "results.csv", index=False)
    (folder / "fits.csv").unlink()
    (folder / "crossovers.csv").unlink()
    done = run("report", folder)
    assert done.returncode == 0, done.stderr
    assert "no data for: Time against n, Crossovers, Crossovers over two axes, Memory against n" in done.stdout
    html = (folder / "report.html").read_text()
    assert "Not drawn" in html and "fits.csv is missing" in html
    assert not (folder / "figures/time_vs_n.png").exists()


def grid_campaign(folder):
    """Two variants over n, d and h that cross where n = 8 d; crossovers.csv as the analysis writes it."""
    template = pd.read_csv(ROOT / "tests/data/campaign_small/results.csv", dtype=str, keep_default_na=False).iloc[0]
    rows, crossings = [], []
    for h, d in [(8, 16), (8, 32), (8, 64), (4, 128), (16, 32), (4, 64), (16, 64)]:
        setting = GRID_SETTING.format(h=h, d=d)
        for n in (64, 128, 256, 512, 1024):
            for variant, time in (("dense/cpu", n * n), ("linear/cpu", n * 8 * d)):
                problem = setting.replace(",threads=2", "").replace(f"d={d},dv", f"nq={n},nk={n},d={d},dv", 1)
                rows.append({**template, "variant": variant, "problem": problem, "point": problem, "status": "ok", "heads_q": h,
                             "heads_kv": h, "seq_q": n, "seq_kv": n, "d_head": d, "d_value": d, "d_model": h * d, "threads": 2,
                             "scope": "core", "time_s_median": 1e-9 * h * time})
        crossings.append({"quantity": "time", "axis": "n", "setting": setting, "variant_a": "dense/cpu",
                          "variant_b": "linear/cpu", "from": 64, "to": 1024, "crossover": 8 * d, "crossover_ci_low": 7 * d,
                          "crossover_ci_high": 9 * d, "theory_crossover": 8 * d, "theory": "crosses", "verdict": "crosses"})
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    pd.DataFrame(crossings).to_csv(folder / "crossovers.csv", index=False)
    return folder


def test_crossovers_over_two_axes(tmp_path):
    """A map over (n, d), and two over (n, h): one holds the width of the model, one that of the head."""
    folder = grid_campaign(tmp_path)
    done = run("crossover_grid", folder)
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (folder / "figures").iterdir()} == {"crossover_n_d", "crossover_n_h", "crossover_n_h_head"}
    sys.path.insert(0, str(ROOT / "plots"))
    import common
    import crossover_grid

    common.set_style()
    figure = dict(crossover_grid.draw(common.Campaign(folder)))["crossover_n_d"]
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["16", "32", "64"]
    # The filled markers climb one column for every doubling of d: n = 8 d.
    diamonds = sorted((line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "D"
                      and line.get_markerfacecolor() == "none")
    assert [round(x, 6) for _, x in diamonds] == [1, 2, 3]


def layer_campaign(folder):
    """Blocks beside their cores over n, d, h and d_o; terms.csv as the analysis writes it for these times."""
    template = pd.read_csv(ROOT / "tests/data/campaign_small/results.csv", dtype=str, keep_default_na=False).iloc[0]
    rows = {}
    shapes = [(n, 8, 64, 512) for n in (128, 256, 512, 1024, 2048)]
    shapes += [(512, 8, d, 8 * d) for d in (16, 32, 128)] + [(512, h, 64, 64 * h) for h in (2, 4, 16)]
    shapes += [(512, 8, 64, width) for width in (128, 256, 1024)]
    for n, h, d, width in shapes:
        core = f"b=1,hq={h},hk={h},nq={n},nk={n},d={d},dv={d},dtype=f32,pass=fwd,mask=none,pos=none"
        core_s, projections_s = 4e-11 * n * n * h * d, 8e-11 * n * h * d * width
        for problem, scope, time in ((core, "core", core_s), (f"{core},scope=block,dm={width}", "block", core_s + projections_s)):
            rows[problem] = {**template, "variant": "mine/cpu", "problem": problem, "point": problem, "status": "ok",
                             "mask": "none", "position": "none", "pass": "fwd", "scope": scope, "heads_q": h, "heads_kv": h,
                             "seq_q": n, "seq_kv": n, "d_head": d, "d_value": d, "threads": 2,
                             "d_model": width if scope == "block" else h * d, "time_s_median": time,
                             "time_s_ci_low": 0.99 * time, "time_s_ci_high": 1.01 * time}
    shared = "dtype=f32,pass=fwd,mask=none,pos=none"
    core = {"n": f"b=1,hq=8,hk=8,d=64,dv=64,{shared},threads=2", "d": f"b=1,hq=8,hk=8,nq=512,nk=512,{shared},threads=2",
            "h_fixed_head": f"b=1,nq=512,nk=512,d=64,dv=64,{shared},threads=2"}
    terms = []
    for axis, exponents in (("n", (2, 1)), ("d", (1, 2)), ("h_fixed_head", (1, 2)), ("d_o", (None, 1))):
        setting = core.get(axis, f"b=1,hq=8,hk=8,nq=512,nk=512,d=64,dv=64,{shared},threads=2")
        block = setting.replace("pos=none", "pos=none,scope=block" + (",dm=512" if axis == "n" else ""))
        for term, exponent in zip(("core", "projections"), exponents):
            if exponent:
                terms.append({"variant": "mine/cpu", "term": term, "axis": axis, "from": 16 if axis == "d" else 2 if axis != "n" else 128,
                              "to": 1024, "exponent": exponent, "exponent_ci_low": exponent, "exponent_ci_high": exponent,
                              "analytic_exponent": exponent, "verdict": "agrees",
                              "setting": setting if term == "core" else block})
    terms.append({"variant": "mine/cpu", "term": "crossing", "axis": "n", "crossing": 1024, "crossing_ci_low": 900,
                  "crossing_ci_high": 1100, "theory_crossing": 1024, "theory_crossing_at_rates": 1024, "verdict": "agrees",
                  "setting": core["n"].replace("pos=none", "pos=none,scope=block,dm=512")})
    pd.DataFrame(rows.values()).to_csv(folder / "results.csv", index=False)
    pd.DataFrame(terms).to_csv(folder / "terms.csv", index=False)
    return folder


def test_terms_of_a_layer(tmp_path):
    """Both terms over n with their crossing, and over every width."""
    folder = layer_campaign(tmp_path)
    done = run("complexity", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {path.stem for path in (folder / "figures").iterdir()} == {"complexity", "complexity_widths"}
    sys.path.insert(0, str(ROOT / "plots"))
    import common
    import complexity

    common.set_style()
    figures = dict(complexity.draw(common.Campaign(folder)))
    over_n = figures["complexity"].axes[0]
    assert over_n.get_title() == "mine/cpu, D = 512\ncross at 1024 [900, 1100], theory 1024"
    assert sorted(text.get_text() for text in over_n.texts) == ["1.00", "2.00"]
    core, projections = over_n.containers[0][0].get_ydata(), over_n.containers[1][0].get_ydata()
    assert core[1] / core[0] == pytest.approx(4) and projections[1] / projections[0] == pytest.approx(2)
    assert core[3] == pytest.approx(projections[3])  # n = 1024 = 2D
    # 2048 lies outside the fits: a hollow marker on either curve.
    assert [line.get_xdata().tolist() for line in over_n.lines if line.get_markerfacecolor() == "white"] == [[2048], [2048]]
    ends = [sorted(text.get_text() for text in axes.texts) for axes in figures["complexity_widths"].axes]
    assert ends == [["1.00", "2.00"], ["1.00", "2.00"], ["1.00"]]
    (folder / "terms.csv").unlink()
    assert complexity.draw(common.Campaign(folder)) == []


def test_heads_show_counts_beside_measurements(reported):
    sys.path.insert(0, str(ROOT / "plots"))
    import common
    import heads

    common.set_style()
    campaign = common.Campaign(reported)
    (axis, _), setting = heads.AXES[0], heads.pair_settings(campaign)[0][0]
    rows = heads.counts(campaign, axis, setting)
    assert list(rows.exps / rows.heads_q) == [rows.exps.iloc[0] / rows.heads_q.iloc[0]] * len(rows)
    assert (rows.exps == rows.heads_q * rows.density * rows.seq_q**2).all() and (rows.score_bytes == 4 * rows.exps).all()
    assert rows.flops_useful.nunique() == 1 and rows.tensor_bytes.nunique() == 1  # a fixed width
    figure = heads.draw(campaign)[0][1]
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"FLOPs flat", "FLOPs $\\propto h$", "exps $\\propto h$", "scores $\\propto h$"} <= texts


@pytest.mark.parametrize("kept", [0, 1])
def test_hardly_any_rows(kept, tmp_path):
    folder = copy_campaign(tmp_path)
    pd.read_csv(folder / "results.csv", keep_default_na=False).head(kept).to_csv(folder / "results.csv", index=False)
    (folder / "fits.csv").write_text("")
    (folder / "environment.json").unlink()
    done = run("report", folder)
    assert done.returncode == 0, done.stderr


def test_wrong_use_is_one_line(tmp_path):
    for script in ("time_vs_n", "report"):
        done = run(script, tmp_path / "nowhere")
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1 and "results.csv" in done.stderr
