"""Small multiples of a sweep: a panel per setting, a curve per variant, on logarithmic axes."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from common import COLUMN_IN, GREY, PAGE_IN, X_COLUMN, X_LABEL, fields_of, split_settings

PANELS_PER_FIGURE = 6
LABEL_IN, TITLE_IN, TICKS_IN, LEGEND_LINE_IN = 0.18, 0.2, 0.36, 0.14


def settings_on(campaign, axis, column, least_points=3):
    """Settings with a sweep of at least this many values in `column`: forward before backward, no position before
    positions, plain masks before composed ones, then most points."""
    rows = campaign.ok[(campaign.ok["setting_" + axis] != "") & campaign.ok[column].notna()]
    ranked = []
    for setting, group in rows.groupby("setting_" + axis):
        lengths = group.groupby("variant")[X_COLUMN[axis]].nunique()
        lengths = lengths[lengths >= least_points]
        if len(lengths):
            fields = fields_of(setting)
            ranked.append((fields["pass"] == "bwd", fields["pos"] != "none", fields["mask"] != "none",
                           len(fields["mask"]), -int(lengths.sum()), setting))
    return [entry[-1] for entry in sorted(ranked)]


def pages(settings):
    return [settings[i:i + PANELS_PER_FIGURE] for i in range(0, len(settings), PANELS_PER_FIGURE)]


def legend_handles(campaign, variants, extra=()):
    handles = [Line2D([], [], label=variant, **campaign.style(variant)) for variant in variants]
    return handles + list(extra)


def theory_handle():
    return Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), label="declared growth, through the last point")


def failed_handle():
    return Line2D([], [], color=GREY, marker="x", linestyle="none", label="not ok (see the table)")


def make_grid(panels, handles, note, panel_height_in=1.75, columns=None, share_y=True, left_in=0.6):
    """A figure with a legend and a line of what all panels share below them. Returns figure and axes, flat."""
    columns = columns or min(panels, 3)
    rows = math.ceil(panels / columns)
    width = COLUMN_IN if columns == 1 else PAGE_IN
    legend_columns = max(1, int(width / max(0.55 + 0.062 * max(len(h.get_label()) for h in handles), 1)))
    legend_columns = min(legend_columns, len(handles))
    bottom = LEGEND_LINE_IN * math.ceil(len(handles) / legend_columns) + (LABEL_IN if note else 0) + 0.1
    height = rows * (panel_height_in + TITLE_IN + TICKS_IN) + bottom
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, sharey=share_y)
    figure.subplots_adjust(left=left_in / width, right=1 - 0.08 / width, top=1 - TITLE_IN / height,
                           bottom=(bottom + TICKS_IN) / height,
                           hspace=(TITLE_IN + TICKS_IN) / panel_height_in, wspace=0.08 if share_y else 0.32)
    figure.legend(handles=handles, loc="lower center", ncol=legend_columns, frameon=False,
                  bbox_to_anchor=(0.5, (LABEL_IN if note else 0) / height), handlelength=2.6, columnspacing=1.2,
                  borderaxespad=0.2, labelspacing=0.25)
    if note:
        figure.text(0.5, 0.05 / height, note, ha="center", va="bottom", fontsize=7, color="#444444")
    flat = list(axes.flat)
    for unused in flat[panels:]:
        unused.set_visible(False)
    return figure, flat[:panels]


def power_of_two_ticks(axes, values):
    """At most five labelled ticks, at values of the sweep."""
    values = sorted(set(values))
    step = math.ceil(len(values) / 5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(values[::-1][::step][::-1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def plain_number(value, _=None):
    if 1e-2 <= abs(value) < 1e4:
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if float(digits) == 1 else f"${float(digits):g}\\cdot{power}$"


def log_y(axes):
    """After the data: ticks at powers of ten, at 1, 2 and 5 where they span little more than one."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,), numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))


def heights_at(axes, x):
    """Where the panel's curves stand at x."""
    heights = []
    for line in axes.get_lines():
        xs, ys = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if len(xs) > 1 and xs[0] <= x <= xs[-1] and (ys > 0).all():
            heights.append(math.exp(np.interp(math.log(x), np.log(xs), np.log(ys))))
    return heights


def label_ends(axes, labels):
    """Texts beside the last points, (x, y, text, colour): above a curve that ends early, right of the others and
    pushed apart where they would overlap."""
    if not labels:
        return
    low, high = axes.get_ylim()
    height_points = axes.get_window_extent().height * 72 / axes.figure.dpi
    scale = height_points / math.log(high / low)
    last = max(x for x, *_ in labels)
    halo = [withStroke(linewidth=1.5, foreground="white")]
    for x, y, text, colour in labels:
        if x < last:
            gaps = [math.log(other / y) * scale for other in heights_at(axes, x)]
            below = any(1 < gap < 16 for gap in gaps) and not any(-16 < gap < -1 for gap in gaps)
            above = 4.0
            for gap in sorted(gap for gap in gaps if gap > 1):
                above = gap + 5 if gap < above + 9 else above
            axes.annotate(text, (x, y), xytext=(0, -10 if below else above), textcoords="offset points", ha="center",
                          fontsize=6.5, color=colour, path_effects=halo, zorder=6)
    labels = [label for label in labels if label[0] == last]
    gap = 7.5
    placed = sorted((math.log(y / low) * scale, x, text, colour) for x, y, text, colour in labels)
    heights = [item[0] for item in placed]
    for _ in range(100):
        for i in range(len(heights) - 1):
            overlap = gap - (heights[i + 1] - heights[i])
            if overlap > 0:
                heights[i] -= overlap / 2
                heights[i + 1] += overlap / 2
    shift = max(0, 3 - heights[0]) - max(0, heights[-1] - (height_points - 3))
    for height, (_, x, text, colour) in zip(heights, placed):
        y = low * math.exp((height + shift) / scale)
        axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=6.5, color=colour,
                      path_effects=halo, zorder=6)


def draw_curves(axes, campaign, axis, setting, column, scale, quantity, low=None, high=None):
    """One panel: every variant's curve with intervals, its declared growth, its fitted exponent at the end."""
    x_column = X_COLUMN[axis]
    rows = campaign.results[campaign.results["setting_" + axis] == setting]
    labels, drawn = [], []
    for variant in campaign.variants:
        own = rows[rows.variant == variant].drop_duplicates(x_column, keep="last").sort_values(x_column)
        ok = own[(own.status == "ok") & own[column].notna() & (own[column] > 0)]
        if len(ok) < 2:
            continue
        style = campaign.style(variant)
        x, y = ok[x_column].to_numpy(float), ok[column].to_numpy(float) * scale
        errors = None
        if low:
            errors = [y - ok[low].fillna(ok[column]).to_numpy(float) * scale,
                      ok[high].fillna(ok[column]).to_numpy(float) * scale - y]
        axes.errorbar(x, y, yerr=errors, capsize=1.5, elinewidth=0.7, **style)
        drawn.append((variant, own, x[-1], y[-1]))
        fit = campaign.fit(variant, axis, quantity, setting)
        if fit is None:
            continue
        if fit.analytic_exponent == fit.analytic_exponent:
            axes.plot(x, y[-1] * (x / x[-1]) ** fit.analytic_exponent, color=style["color"], linewidth=0.8,
                      linestyle=(0, (1, 1.5)), zorder=1)
        if fit.exponent == fit.exponent:
            labels.append((x[-1], y[-1], f"{fit.exponent:.2f}", style["color"]))
    power_of_two_ticks(axes, rows[x_column])
    log_y(axes)
    return labels, drawn


def mark_failures(axes, campaign, axis, drawn):
    """A cross at the lower edge where a curve has a row that is not ok; several stand on each other."""
    stacked = {}
    for variant, own, _, _ in drawn:
        failed = own[~own.status.isin(["ok", "unsupported", "skipped"])]
        for x in failed[X_COLUMN[axis]]:
            stacked[x] = stacked.get(x, -1) + 1
            axes.plot([x], [0.045 + 0.06 * stacked[x]], marker="x", color=campaign.style(variant)["color"], markersize=4,
                      transform=axes.get_xaxis_transform(), linestyle="none")


def drawn_variants(campaign, axis, settings):
    rows = campaign.ok[campaign.ok["setting_" + axis].isin(settings)]
    points = rows.groupby("variant")[X_COLUMN[axis]].nunique()
    return [variant for variant in campaign.variants if points.get(variant, 0) > 1]


def sweep_figure(campaign, axis_settings, column, scale, y_label, quantity, low=None, high=None, titles=None,
                 extra=()):
    """A figure with a panel per (axis, setting); the text that all settings share stands below."""
    settings = [setting for _, setting in axis_settings]
    own, shared = split_settings(settings)
    if titles is None:
        titles = own if len(settings) > 1 else [""]
    variants = [v for v in campaign.variants
                if any(v in drawn_variants(campaign, axis, [setting]) for axis, setting in axis_settings)]
    failed = campaign.results[~campaign.results.status.isin(["ok", "unsupported", "skipped"])]
    any_failed = any((failed["setting_" + axis] == setting).any() for axis, setting in axis_settings)
    handles = legend_handles(campaign, variants, [theory_handle(), *extra] + ([failed_handle()] if any_failed else []))
    figure, axes = make_grid(len(settings), handles, shared)
    parts = []
    for panel, (axis, setting), title in zip(axes, axis_settings, titles):
        parts.append(draw_curves(panel, campaign, axis, setting, column, scale, quantity, low, high))
        panel.set_title(title, pad=3)
    for panel, (axis, setting), (labels, drawn) in zip(axes, axis_settings, parts):
        left, right = panel.get_xlim()
        panel.set_xlim(left, right * (right / left) ** 0.13)
        bottom, top = panel.get_ylim()
        if panel.get_subplotspec().is_first_col():
            panel.set_ylim(bottom / (top / bottom) ** 0.06, top * (top / bottom) ** 0.04)
        panel.set_xlabel(X_LABEL[axis], labelpad=1)
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(y_label)
        label_ends(panel, labels)
        mark_failures(panel, campaign, axis, drawn)
    return figure
