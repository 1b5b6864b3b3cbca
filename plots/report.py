"""All figures of a campaign and its report.html: python3 plots/report.py DIR.

The report is one file: figures, styles and the script that sorts and filters tables are inside it.
"""

import base64
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jinja2

import provenance
import ratios
import summary
import threats
from common import FORMATS, Campaign, read_table, save, set_style
from finding import Data
from tables import build, read_text

SCRIPTS = ["time_vs_n", "crossover_map", "crossover_grid", "memory_vs_n", "time_vs_d", "time_vs_h", "flops", "error_vs_n", "agreement",
           "heads", "complexity", "ladder", "tokens"]
RESULT_COLUMNS = ["variant", "status", "mask", "position", "pass", "dtype", "seq_q", "heads_q", "d_head", "threads",
                  "launch", "time_s_median", "time_hot_s_median", "latency_s_median", "latency_graph_s_median", "samples", "samples_throttled", "stop", "ratio_to_baseline", "roof_fraction", "bound",
                  "memory_workspace_peak_bytes", "error_bound", "machine"]
FAILURE_COLUMNS = ["variant", "status", "reason", "problem", "threads", "repro"]
FIT_COLUMNS = ["variant", "axis", "quantity", "setting", "exponent", "analytic_exponent_fitted_range", "verdict", "points",
               "from", "to", "model", "excluded", "knees"]
CROSSOVER_COLUMNS = ["quantity", "axis", "setting", "variant_a", "variant_b", "verdict", "crossover", "theory_crossover",
                     "ratio_at_to", "points", "from", "to"]
SLOPE_COLUMNS = ["variant", "axis", "quantity", "setting", "from", "to", "exponent", "declared_exponent", "fitted"]
RATIO_COLUMNS = ["variant", "peer", "ratio", "rounds", "problem", "threads"]
# File, title, columns shown at first (all where None), note.
FILES = [("fits", "Exponents", FIT_COLUMNS, "Fitted: offset + coefficient · x^exponent, with the 95 % interval of the exponent."),
         ("crossovers", "Crossovers", CROSSOVER_COLUMNS,
          "From which n, or density of a mask, one variant is below the other."),
         ("ratios", "Against the peers", RATIO_COLUMNS, "The peer's time over the variant's, paired by round: above 1 the variant is faster."),
         ("frontier", "Largest feasible problems", None, ""), ("terms", "Cost term by term", None, ""),
         ("slopes", "Local exponents between neighbours", SLOPE_COLUMNS, "")]


def draw_figures(campaign):
    """(drawn: title, caption and data URIs; titles of the figures whose data are absent)."""
    drawn, absent = [], []
    for name in SCRIPTS:
        script = importlib.import_module(name)
        figures = script.draw(campaign)
        images = []
        for file_name, figure in figures:
            width_in = figure.get_figwidth()
            paths = {path.suffix: path for path in save(figure, campaign.folder, file_name)}
            encoded = base64.b64encode(paths[".svg"].read_bytes()).decode()
            images.append({"name": file_name, "uri": f"data:image/svg+xml;base64,{encoded}", "width_px": round(130 * width_in)})
        if images:
            drawn.append({"title": script.TITLE, "caption": script.CAPTION, "images": images})
        else:
            absent.append(script.TITLE)
    return drawn, absent


def time_first(frame):
    """Rows by quantity, as the overview lists them."""
    order = list(summary.QUANTITIES)
    if "quantity" not in frame or not frame.quantity.isin(order).all():
        return frame
    return frame.sort_values("quantity", key=lambda names: names.map(order.index), kind="stable")


def tables_of(folder, results):
    """The tables of the page by key; those without rows are left out."""
    tables = [build(name, title, time_first(read_text(folder / f"{name}.csv")), columns, note)
              for name, title, columns, note in FILES]
    texts = read_text(folder / "results.csv")
    tables.insert(0, build("results", "Results", texts, RESULT_COLUMNS))
    note = "Ratio of what was forecast before a point ran to what was measured: median and quartiles over the rows of a variant."
    tables.append(build("predictions", "Predicted against measured", summary.predictions(results), note=note))
    return {table.key: table for table in tables if table}


def failures_of(folder):
    """(table of the rows that were tried and have no time; table of the refused rows, [(variant, reason, count)])."""
    texts = read_text(folder / "results.csv")
    refused = texts[texts.status == "unsupported"]
    failed = texts[~texts.status.isin(["ok", "unsupported"])]
    groups = refused.groupby(["variant", "reason"], sort=False).size()
    return (build("failures", "Rows without a result", failed[FAILURE_COLUMNS], FAILURE_COLUMNS),
            build("unsupported", "Unsupported", refused[FAILURE_COLUMNS], FAILURE_COLUMNS),
            [(variant, reason, count) for (variant, reason), count in groups.items()])


def unbroken(text):
    """"n = 8" and "5 %" on one line."""
    return text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")


def within(name):
    """A title within a sentence: "Few samples", but not "CPU pressure", without its capital."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def render(campaign, figures, absent):
    here = Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(here), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True)
    environment.filters.update(unbroken=unbroken, within=within)
    failed, refused, refusals = failures_of(campaign.folder)
    data = Data(campaign.results, read_table(campaign.folder / "samples.csv"), campaign.fits, campaign.environment)
    return environment.get_template("report.html.j2").render(
        title=campaign.folder.resolve().name, description=summary.description(campaign.environment),
        question=summary.question(campaign), numbers=summary.telling_numbers(campaign), growth=summary.growth_table(campaign),
        verdicts=summary.verdict_counts(campaign), machines=provenance.machines(campaign.environment),
        environment=provenance.flat(campaign.environment), method=provenance.method(campaign), figures=figures,
        formats=FORMATS, absent=absent, tables=tables_of(campaign.folder, campaign.results), failed=failed, refused=refused,
        refusals=refusals, threats=threats.judge(data), commands=provenance.commands(campaign.environment),
        build=campaign.environment.get("build") or {}, style=(here / "report.css").read_text(encoding="utf-8"),
        script=(here / "report.js").read_text(encoding="utf-8"))


def write_report(folder):
    set_style()
    campaign = Campaign(folder)
    ratios.write(folder)
    figures, absent = draw_figures(campaign)
    path = campaign.folder / "report.html"
    path.write_text(render(campaign, figures, absent), encoding="utf-8")
    return path, len(figures), absent


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: report.py DIR (the folder of a campaign)")
    report, count, missing = write_report(sys.argv[1])
    print(f"{count} figures in {report.parent / 'figures'}" + (f"; no data for: {', '.join(missing)}" if missing else ""))
