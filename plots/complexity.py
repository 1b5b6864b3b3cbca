"""The two terms of a layer, O(h n^2 d) of the core and O(n d d_o) of the projections, and where they cross."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common import GREY, OKABE_ITO, PAGE_IN, describe, fields_of, main, read_table
from panels import label_ends, log_y, plain_number, power_of_two_ticks

TITLE = "A layer term by term"
CAPTION = ("Time of the core alone and of the projections, which is the time of the whole layer less that of the core "
           "(medians; bars: 95 % intervals, cut below at 40 % of the time). Numbers at the curves are fitted exponents, thin grey lines the growth of "
           "theory through the middle of the fitted points. Hollow: left out of the fit, for the reasons in terms.csv. "
           "Over n, the band is the 95 % interval of the n where both take equally long, the dashed line where they "
           "have equally many FLOPs, n = 2D without a mask; the two differ as the rates do at which the terms run "
           "(crossing at the rates: theory_crossing_at_rates in terms.csv). Over the widths n is held: d with the heads "
           "held, h with the head width held, d_o the layer's input and output width alone.")

TERMS = {"core": {"color": OKABE_ITO[0], "marker": "o", "linestyle": "-"},
         "projections": {"color": OKABE_ITO[1], "marker": "s", "linestyle": "--"}}
WIDTH_AXES = {"d": ("d_model", "layer width D = h·d, h held"), "h_fixed_head": ("heads_q", "heads h, d held"),
              "d_o": ("d_model", "width d$_o$, h and d held")}
BAND, LINE_2D = "#009E73", (0, (4, 2))
MOST_COLUMNS = 3
ROW_IN, TITLE_LINE_IN, LEFT_IN, BOTTOM_IN = 1.75, 0.16, 0.6, 0.86


def without(text, names):
    return ",".join(field for field in text.split(",") if field.split("=")[0] not in names)


def layers_of(campaign):
    """Every block that has its core beside it: a row with core_s, projections_s and the ends of their intervals."""
    ok = campaign.ok[campaign.ok.time_s_median.notna()].copy()
    ok["core_text"] = [without(problem, {"scope", "dm"}) for problem in ok.problem]
    machine = ok["machine"] if "machine" in ok else pd.Series("", index=ok.index)
    ok["key"] = ok.variant + "|" + ok.core_text + "|" + ok.threads.astype(str) + "|" + machine.fillna("").astype(str)
    cores = ok[ok.scope == "core"].drop_duplicates("key", keep="last").set_index("key")
    blocks = ok[(ok.scope == "block") & ok.key.isin(cores.index)].copy()
    core = cores.loc[blocks.key]
    blocks["core_s"] = core.time_s_median.to_numpy()
    blocks["projections_s"] = blocks.time_s_median - blocks.core_s
    half = {}
    for name, frame in (("core", core), ("block", blocks)):
        ends = (frame.time_s_ci_high.to_numpy(float) - frame.time_s_ci_low.to_numpy(float)) / 2
        half[name] = np.nan_to_num(ends)
    blocks["core_half_s"] = half["core"]
    blocks["projections_half_s"] = np.hypot(half["core"], half["block"])
    blocks["setting_d_o"] = [without(problem, {"dm"}) + setting[setting.rindex(",threads="):]
                             for problem, setting in zip(blocks.problem, blocks.setting_n)]
    return blocks


def term_row(terms, variant, term, axis, setting):
    """The row of terms.csv, or None."""
    if term == "core":
        setting = without(setting, {"scope", "dm"})
    found = terms[(terms.variant == variant) & (terms.term == term) & (terms.axis == axis) & (terms.setting == setting)]
    return None if found.empty else found.iloc[0]


def left_out(fit, values):
    """Which x the fit did not use: outside its range, or named in why_excluded."""
    named = str(fit.why_excluded).split("; ") if isinstance(fit.get("why_excluded"), str) else []
    named = [float(reason.split(":")[0]) for reason in named]
    return (values < fit["from"]) | (values > fit["to"]) | np.isin(values, named)


def draw_term(axes, term, rows, x_column, axis_x, fit):
    """Curve, hollow points outside the fit, theory's slope; returns the label at its end."""
    rows = rows[rows[term + "_s"] > 0]  # noise may leave the projections nothing
    if rows.empty:
        return []
    x, y = rows[x_column].to_numpy(float), rows[term + "_s"].to_numpy(float) * 1e3
    half = rows[term + "_half_s"].to_numpy(float) * 1e3
    style = TERMS[term]
    axes.errorbar(x, y, yerr=[np.minimum(half, 0.6 * y), half], capsize=1.5, elinewidth=0.7, **style)
    if fit is None or fit.exponent != fit.exponent:
        return []
    outside = left_out(fit, rows[axis_x].to_numpy(float))
    axes.plot(x[outside], y[outside], linestyle="none", marker=style["marker"], color=style["color"],
              markerfacecolor="white", zorder=5)
    level = np.exp(np.mean(np.log(y[~outside] / x[~outside] ** fit.analytic_exponent)))
    axes.plot(x, level * x**fit.analytic_exponent, color=GREY, linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=1)
    return [(x[-1], y[-1], f"{fit.exponent:.2f}", style["color"])]


def draw_crossing(axes, crossing):
    """Band and line of the measured crossing, theory's dashed; returns what the title says of them."""
    if crossing is None:
        return ""
    said = []
    if crossing.crossing == crossing.crossing:
        low, high = crossing.crossing_ci_low, crossing.crossing_ci_high
        if low == low and high == high:
            axes.axvspan(low, high, color=BAND, alpha=0.25, linewidth=0)
        axes.axvline(crossing.crossing, color=BAND, linewidth=0.9)
        said.append(f"cross at {crossing.crossing:.0f}" + (f" [{low:.0f}, {high:.0f}]" if low == low and high == high else ""))
    if crossing.theory_crossing == crossing.theory_crossing:
        axes.axvline(crossing.theory_crossing, color=GREY, linewidth=0.9, linestyle=LINE_2D)
        said.append(f"theory {crossing.theory_crossing:.0f}")
    return ", ".join(said)


def draw_panel(axes, rows, terms, axis, setting, x_column, fit_column):
    """One variant and setting; returns title and labels."""
    variant = rows.variant.iloc[0]
    rows = rows.drop_duplicates(x_column, keep="last").sort_values(x_column)
    labels = []
    for term in TERMS:
        labels += draw_term(axes, term, rows, x_column, fit_column, term_row(terms, variant, term, axis, setting))
    power_of_two_ticks(axes, rows[x_column])
    log_y(axes)
    axes.yaxis.set_major_formatter(plain_number)
    if axis != "n":
        return f"{variant}, n = {rows.seq_q.iloc[0]}", labels
    said = draw_crossing(axes, term_row(terms, variant, "crossing", axis, setting))
    return f"{variant}, D = {rows.d_model.iloc[0]}" + (f"\n{said}" if said else ""), labels


def figure_of(panels, columns, terms, crossings):
    """panels: [(axis, setting, rows, x column, column of the fit's x, label of x)], filled row by row."""
    rows = -(-len(panels) // columns)
    title_in = TITLE_LINE_IN * (2 if crossings else 1) + 0.06
    height = rows * (ROW_IN + title_in + 0.34) + BOTTOM_IN - 0.34
    figure, grid = plt.subplots(rows, columns, figsize=(PAGE_IN, height), squeeze=False)
    figure.subplots_adjust(left=LEFT_IN / PAGE_IN, right=1 - 0.08 / PAGE_IN, top=1 - title_in / height,
                           bottom=BOTTOM_IN / height, hspace=(title_in + 0.34) / ROW_IN, wspace=0.24)
    flat = list(grid.flat)
    for unused in flat[len(panels):]:
        unused.set_visible(False)
    for axes, (axis, setting, own, x_column, fit_column, label) in zip(flat, panels):
        title, labels = draw_panel(axes, own, terms, axis, setting, x_column, fit_column)
        axes.set_title(title, pad=3, fontsize=6.5 if "\n" in title else None)
        axes.set_xlabel(label, labelpad=1)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right * (right / left) ** 0.12)
        label_ends(axes, labels)
    for row in grid:
        row[0].set_ylabel("time (ms)")
    handles = [Line2D([], [], label=term, **style) for term, style in TERMS.items()]
    handles.append(Line2D([], [], color=GREY, linewidth=0.7, linestyle=(0, (1, 1.5)), label="growth of theory"))
    if crossings:
        handles += [Patch(color=BAND, alpha=0.4, linewidth=0, label="measured crossing, 95 %"),
                    Line2D([], [], color=GREY, linewidth=0.9, linestyle=LINE_2D, label="equal FLOPs")]
    figure.legend(handles=handles, loc="lower center", ncol=len(handles), frameon=False, handlelength=2.6,
                  bbox_to_anchor=(0.5, 0.2 / height), columnspacing=1.4, borderaxespad=0.1)
    fields = fields_of(panels[0][1])
    note = describe(fields, [name for name in ("mask", "pos", "pass", "b", "dtype", "threads") if name in fields])
    figure.text(0.5, 0.06 / height, note, ha="center", va="bottom", fontsize=7, color="#444444")
    return figure


def sweeps(layers, axis, x_column, least=3):
    """[(variant, setting, rows)] with at least this many values, by variant and width."""
    found = []
    for (variant, setting), rows in layers.groupby(["variant", "setting_" + axis]):
        if setting and rows[x_column].nunique() >= least:
            found.append((variant, rows.d_model.min(), setting, rows))
    return [(variant, setting, rows) for variant, _, setting, rows in sorted(found, key=lambda item: item[:3])]


def draw(campaign):
    terms = read_table(campaign.folder / "terms.csv")
    if terms.empty or campaign.ok.empty:
        return []
    layers = layers_of(campaign)
    figures = []
    panels = [("n", setting, rows, "seq_q", "seq_q", "sequence length n")
              for _, setting, rows in sweeps(layers, "n", "seq_q")][:2 * MOST_COLUMNS]
    if panels:
        figures.append(("complexity", figure_of(panels, min(len(panels), MOST_COLUMNS), terms, True)))
    fit_columns = {"d": "d_head", "h_fixed_head": "heads_q", "d_o": "d_model"}
    longest = []
    for variant in sorted(layers.variant.unique()):
        own = layers[layers.variant == variant]
        for axis, (x_column, label) in WIDTH_AXES.items():
            found = sorted(sweeps(own, axis, x_column), key=lambda item: item[2][x_column].nunique())
            if found:
                longest.append((axis, found[-1][1], found[-1][2], x_column, fit_columns[axis], label))
    if longest:
        figures.append(("complexity_widths", figure_of(longest[:3 * MOST_COLUMNS], min(len(longest), MOST_COLUMNS), terms, False)))
    return figures


if __name__ == "__main__":
    main(draw)
