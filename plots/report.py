"""All figures of a campaign and its report.html: python3 plots/report.py DIR.

The report is one file: figures, styles and the few lines of script that sort tables are inside it.
"""

import base64
import importlib
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jinja2
import pandas as pd

from common import Campaign, save, set_style

SCRIPTS = ["time_vs_n", "crossover_map", "crossover_grid", "memory_vs_n", "time_vs_d", "time_vs_h", "flops", "error_vs_n", "agreement",
           "heads", "complexity"]
RESULT_COLUMNS = ["variant", "status", "mask", "position", "pass", "seq_q", "seq_kv", "heads_q", "d_head", "time_s_median", "time_s_ci_low", "time_s_ci_high", "samples",
                  "ratio_to_baseline", "flops_per_s", "roof_fraction", "bound", "memory_operands_bytes",
                  "memory_workspace_peak_bytes", "memory_process_peak_bytes", "error_rel_l2", "error_bound", "threads",
                  "problem"]
FIT_COLUMNS = ["axis", "quantity", "variant", "exponent", "exponent_ci_low", "exponent_ci_high", "analytic_exponent",
               "analytic_exponent_fitted_range", "verdict", "points", "from", "to", "model", "offset", "coefficient", "unit",
               "loglog_exponent", "held_out_x", "held_out_error_fitted", "held_out_error_declared", "held_out_better",
               "residual_rms", "excluded", "why_excluded", "knees", "setting"]
CROSSOVER_COLUMNS = ["quantity", "axis", "variant_a", "variant_b", "verdict", "crossover", "crossover_ci_low",
                     "crossover_ci_high", "theory_crossover", "theory", "ratio_at_to", "crossings", "points", "from", "to",
                     "setting"]
FAILURE_COLUMNS = ["variant", "status", "reason", "problem", "threads", "repro"]


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


def cell(value):
    """(what is shown, what is sorted by)."""
    if value is None or isinstance(value, float) and math.isnan(value):
        return "", ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e15 and value != int(value) else f"{value:.6g}", repr(value)
    return str(value), str(value)


def table(frame, columns=None):
    """Columns and rows for the template; columns that the file lacks are left out."""
    if frame.empty:
        return None
    columns = [column for column in (columns or frame.columns) if column in frame.columns]
    return {"columns": columns, "rows": [[cell(value) for value in row] for row in frame[columns].itertuples(index=False)]}


def flat(value, prefix=""):
    """Nested JSON as (name, text) lines."""
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in flat(inner, f"{prefix}.{key}" if prefix else key)]
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return [line for index, inner in enumerate(value) for line in flat(inner, f"{prefix}[{index}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(str(inner) for inner in value))]
    return [(prefix, "unknown" if value is None else str(value))]


def write_report(folder):
    set_style()
    campaign = Campaign(folder)
    figures, absent = draw_figures(campaign)
    results = campaign.results
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True)
    html = environment.get_template("report.html.j2").render(
        title=campaign.folder.resolve().name, figures=figures, absent=absent,
        counts=results.status.value_counts().sort_index().items(), rows=len(results),
        variants=campaign.variants, environment=flat(campaign.environment),
        fits=table(campaign.fits, FIT_COLUMNS), crossovers=table(campaign.crossovers, CROSSOVER_COLUMNS),
        failures=table(results[results.status != "ok"], FAILURE_COLUMNS), results=table(results, RESULT_COLUMNS))
    path = campaign.folder / "report.html"
    path.write_text(html, encoding="utf-8")
    return path, len(figures), absent


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: report.py DIR (the folder of a campaign)")
    report, count, missing = write_report(sys.argv[1])
    print(f"{count} figures in {report.parent / 'figures'}" + (f"; no data for: {', '.join(missing)}" if missing else ""))
