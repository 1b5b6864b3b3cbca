"""report.html in headless Chromium: it loads in silence, sorts, filters and exports, and asks the network for nothing."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import browser

ROOT = Path(__file__).resolve().parent.parent
CAMPAIGNS = {"committed": ROOT / "results/scaling-h", "synthetic": ROOT / "tests/data/campaign_small"}

# Continuous integration installs chromium: there its absence is an error.
pytestmark = pytest.mark.skipif(browser.PROGRAM is None and os.environ.get("CI") != "true", reason=browser.MISSING)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Campaigns with a fresh report, made at the same time. All figures are drawn in plots_test: here few are enough."""
    program = "import sys, report; report.SCRIPTS = ['time_vs_n', 'time_vs_h', 'agreement']; report.write_report(sys.argv[1])"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT / "plots")}
    made, running = {}, []
    for name, source in CAMPAIGNS.items():
        made[name] = tmp_path_factory.mktemp("report") / name
        shutil.copytree(source, made[name], ignore=shutil.ignore_patterns("figures", "report.html"))
        running.append(subprocess.Popen([sys.executable, "-c", program, made[name]], stderr=subprocess.PIPE, text=True,
                                        env=environment))
    for process in running:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    return made


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as started:
        yield started


@pytest.fixture
def page(chromium, folders):
    chromium.open(folders["synthetic"] / "report.html")
    yield chromium
    assert chromium.complaints() == []


def rows_of(path, **fields):
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if all(row[name] == value for name, value in fields.items())]


def exact(page, key, column):
    """Exact texts of a column in the rows shown, from top to bottom."""
    return page.run(f"""(() => {{
      const table = document.querySelector("#{key} table.sheet");
      const column = [...table.tHead.rows[0].cells].findIndex(head => head.dataset.column === "{column}");
      return [...table.tBodies[0].rows].filter(row => row.checkVisibility())
        .map(row => column < row.cells.length ? row.cells[column].title || row.cells[column].textContent
                                              : JSON.parse(row.dataset.more)[column - row.cells.length]);
    }})()""")


def click(page, key, column):
    """Clicks a header; returns aria-sort."""
    return page.run(f"""(() => {{
      const head = document.querySelector("#{key} th[data-column={column}]");
      head.querySelector("button").click();
      return head.getAttribute("aria-sort");
    }})()""")


def count(page, key):
    return page.run(f'document.querySelector("#{key} .tools output").textContent')


def enter(page, key, text):
    page.run(f"""(() => {{
      const input = document.querySelector("#{key} input[type=search]");
      input.value = "{text}";
      input.dispatchEvent(new Event("input", {{bubbles: true}}));
    }})()""")


def choose(page, key, label, value):
    page.run(f"""(() => {{
      const select = document.querySelector('#{key} select[aria-label="Rows with {label}"]');
      select.value = "{value}";
      select.dispatchEvent(new Event("change", {{bubbles: true}}));
    }})()""")


def push(page, key, label):
    page.run(f"""[...document.querySelectorAll("#{key} .tools button")].find(button => button.textContent === "{label}").click()""")


@pytest.mark.parametrize("name", CAMPAIGNS)
@pytest.mark.parametrize("width, dark", [(1280, False), (1280, True), (420, False)])
def test_loads_alone_and_in_silence(chromium, folders, name, width, dark):
    path = folders[name] / "report.html"
    chromium.open(path, width=width, dark=dark)
    assert chromium.complaints() == []
    asked = [url for url in chromium.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [path.as_uri()]
    widths = chromium.run("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == len(list((folders[name] / "figures").glob("*.svg"))) > 0 and min(widths) > 0
    assert chromium.run("[...document.images].every(image => image.alt.length > 20)")
    assert chromium.run("document.documentElement.scrollWidth <= innerWidth"), "wide content must scroll in its own box"
    colour = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == dark


def test_links_lead_to_places_and_files(page, folders):
    links = page.run("[...document.querySelectorAll('[src], a[href]')]"
                     ".map(node => node.getAttribute('src') ?? node.getAttribute('href'))")
    assert all(link.startswith(("#", "data:", "figures/")) for link in links)
    assert all((folders["synthetic"] / link).is_file() for link in links if link.startswith("figures/"))
    assert page.run("[...document.querySelectorAll('a[href^=\"#\"]')].every(link => document.getElementById(link.hash.slice(1)))")


def test_a_header_sorts_numbers_up_and_down(page):
    assert click(page, "results", "time_s_median") == "ascending"
    times = exact(page, "results", "time_s_median")
    numbers = [float(text) for text in times if text]
    assert numbers == sorted(numbers) and len(set(numbers)) > 50
    assert times == [text for text in times if text] + [""] * times.count("") and "" in times, "empty fields stand last"
    assert sorted(times) != times, "the data do not tell numbers from words"
    assert click(page, "results", "time_s_median") == "descending"
    down = exact(page, "results", "time_s_median")
    assert [float(text) for text in down if text] == numbers[::-1] and down[-1] == ""
    assert page.run("document.querySelectorAll('#results th[aria-sort]').length") == 1


def test_a_header_sorts_words(page):
    click(page, "fits", "variant")
    names = exact(page, "fits", "variant")
    assert names == sorted(names) and len(set(names)) > 1
    click(page, "fits", "variant")
    assert exact(page, "fits", "variant") == names[::-1]


def test_keys_sort(page):
    page.run('document.querySelector("#results th[data-column=seq_q] button").focus()')
    page.press("Enter", "\r")
    numbers = [int(text) for text in exact(page, "results", "seq_q")]
    assert numbers == sorted(numbers) and len(set(numbers)) > 1


def test_words_filter(page, folders):
    everything = rows_of(folders["synthetic"] / "results.csv")
    assert count(page, "results") == f"{len(everything)} of {len(everything)} rows"
    kept = [row for row in everything if row["variant"] == "tiled/synthetic" and row["position"] == "alibi"]
    enter(page, "results", "ALIBI tiled")
    assert len(exact(page, "results", "point")) == len(kept) > 0
    assert count(page, "results") == f"{len(kept)} of {len(everything)} rows"
    enter(page, "results", "no such words")
    assert count(page, "results") == f"0 of {len(everything)} rows"
    enter(page, "results", "")
    assert len(exact(page, "results", "point")) == len(everything)


def test_lists_filter(page, folders):
    path = folders["synthetic"] / "results.csv"
    choose(page, "results", "variant", "plain/synthetic")
    choose(page, "results", "status", "timed_out")
    kept = rows_of(path, variant="plain/synthetic", status="timed_out")
    assert exact(page, "results", "point") == [row["point"] for row in kept] and kept
    choose(page, "results", "variant", "")
    choose(page, "results", "status", "disagrees")
    assert exact(page, "results", "point") == [row["point"] for row in rows_of(path, status="disagrees")]


def test_a_verdict_filters_its_table(page, folders):
    page.run('document.querySelector(\'a[href="#fits"][data-where="verdict=agrees&quantity=workspace"]\').click()')
    kept = rows_of(folders["synthetic"] / "fits.csv", verdict="agrees", quantity="workspace")
    assert len(exact(page, "fits", "variant")) == len(kept) > 0


def test_csv_has_the_exact_rows_shown(page, folders, tmp_path):
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    choose(page, "results", "variant", "tiled/synthetic")
    click(page, "results", "seq_q")
    shown = exact(page, "results", "point")
    push(page, "results", "CSV")
    path, until = tmp_path / "synthetic-results.csv", time.monotonic() + 20
    while not (path.is_file() and path.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    saved = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [row["point"] for row in saved] == shown
    original = {row["point"]: row for row in rows_of(folders["synthetic"] / "results.csv", variant="tiled/synthetic")}
    assert saved and all(row == original[row["point"]] for row in saved), "all columns, exactly as in the file"


def test_all_columns_on_demand(page, folders):
    names = rows_of(folders["synthetic"] / "results.csv")[0].keys()
    visible = ("[...document.querySelectorAll('#results th')].filter(head => head.checkVisibility())"
               ".map(head => head.dataset.column)")
    assert {"variant", "time_s_median"} < set(page.run(visible)) < set(names)
    push(page, "results", "all columns")
    assert set(page.run(visible)) == set(names)
    assert page.run(f"[...document.querySelectorAll('#results tbody tr')].every(row => row.cells.length === {len(names)})")
    assert exact(page, "results", "seed") == [row["seed"] for row in rows_of(folders["synthetic"] / "results.csv")]


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_row_that_is_not_ok_is_there_with_its_command(chromium, folders, name):
    chromium.open(folders[name] / "report.html")
    chromium.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    expected = [row for row in rows_of(folders[name] / "results.csv") if row["status"] != "ok"]
    for column in ("status", "reason", "repro"):
        shown = chromium.run(f"""[...document.querySelectorAll("#failures table.sheet")].flatMap(table => {{
          const column = [...table.tHead.rows[0].cells].findIndex(head => head.dataset.column === "{column}");
          const more = row => JSON.parse(row.dataset.more)[column - row.cells.length];
          return [...table.tBodies[0].rows]
            .map(row => row.cells[column]?.title || row.cells[column]?.textContent || more(row));
        }})""")
        assert sorted(shown) == sorted(row[column] for row in expected) and shown
