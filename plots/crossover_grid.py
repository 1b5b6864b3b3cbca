"""Who is fastest over sequence length and head width, and over sequence length and heads, with the crossovers between."""

import matplotlib.pyplot as plt
import numpy as np

from common import PAGE_IN, X_LABEL, describe, fields_of, main
from crossover_map import fastest
from panels import legend_handles

TITLE = "Crossovers over two axes"
CAPTION = ("The fastest variant at each n and head width d, or n and heads h; the number is how many times as long the next one "
           "takes. Markers with a bar: from this n on a variant is faster than the one named in crossovers.csv, with its 95 % "
           "interval; diamond: the crossover of their FLOPs.")
# Name of the figure, what y is, fields of the setting that move along y, what they hold together.
MAPS = [("crossover_n_d", "d", ("d", "dv"), None), ("crossover_n_h", "hq", ("hq", "hk", "d", "dv"), "width"),
        ("crossover_n_h", "hq", ("hq", "hk"), "head")]
Y_LABEL = {"d": X_LABEL["d"], "hq": X_LABEL["h_fixed_head"]}
MOST_MAPS, CELL_IN, LEFT_IN, GAP_IN = 6, 0.26, 0.6, 0.75


def grids(campaign, y, moving, held):
    """{what is shared: {y: setting}} for groups of at least two y, most rows first."""
    found = {}
    for setting in campaign.ok.setting_n.unique():
        if not setting:
            continue
        fields = fields_of(setting)
        shared = ",".join(f"{name}={value}" for name, value in fields.items() if name not in moving)
        if held == "width":
            shared += f",hq*d={int(fields['hq']) * int(fields['d'])}"
        found.setdefault(shared, {})[int(fields[y])] = setting
    found = {shared: rows for shared, rows in found.items() if len(rows) > 1
             and campaign.ok[campaign.ok.setting_n.isin(rows.values())].seq_q.nunique() > 1}
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def draw_cells(axes, campaign, sizes, rows):
    winners = set()
    for y, setting in enumerate(rows.values()):
        for n, variant, ratio in fastest(campaign, setting):
            x, style = sizes.index(n), campaign.style(variant)
            winners.add(variant)
            axes.add_patch(plt.Rectangle((x - 0.48, y - 0.44), 0.96, 0.88, color=style["color"], alpha=0.3, linewidth=0))
            if ratio == ratio:
                axes.text(x, y + 0.16, f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×", ha="center", va="center", fontsize=6)
    return winners


def draw_crossovers(axes, campaign, sizes, rows):
    """Crossovers between sizes, at their place in logarithms. Returns the variants that take over."""
    table = campaign.crossovers
    if table.empty or "axis" not in table:
        return set()
    table = table[(table.quantity == "time") & (table.axis == "n") & table.crossover.notna()]
    place = lambda n: np.interp(np.log(n), np.log(sizes), range(len(sizes)))
    takers = set()
    for y, setting in enumerate(rows.values()):
        for pair in table[table.setting == setting].itertuples():
            style = campaign.style(pair.variant_b)
            takers.add(pair.variant_b)
            low, high = (end if end == end else pair.crossover for end in (pair.crossover_ci_low, pair.crossover_ci_high))
            axes.plot([place(low), place(high)], [y - 0.25, y - 0.25], color=style["color"], linewidth=1.2)
            axes.plot([place(pair.crossover)], [y - 0.25], marker=style["marker"], color=style["color"], markersize=4)
            if pair.theory_crossover == pair.theory_crossover:
                axes.plot([place(pair.theory_crossover)], [y - 0.25], marker="D", markerfacecolor="none", color="black",
                          markersize=4.5)
    return takers


def draw_map(campaign, name, y, groups):
    counts = [len(rows) for _, rows in groups]
    height = sum(CELL_IN * 1.5 * count + GAP_IN for count in counts) + 0.35
    figure = plt.figure(figsize=(PAGE_IN, height))
    shown, top = set(), height - 0.25
    for shared, rows in groups:
        rows = dict(sorted(rows.items()))
        high = CELL_IN * 1.5 * len(rows)
        axes = figure.add_axes([LEFT_IN / PAGE_IN, (top - high) / height, 1 - (LEFT_IN + 0.15) / PAGE_IN, high / height])
        sizes = sorted(int(n) for n in campaign.ok[campaign.ok.setting_n.isin(rows.values())].seq_q.unique())
        shown |= draw_cells(axes, campaign, sizes, rows) | draw_crossovers(axes, campaign, sizes, rows)
        axes.set_xlim(-0.5, len(sizes) - 0.5)
        axes.set_ylim(-0.5, len(rows) - 0.5)
        axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
        axes.set_yticks(range(len(rows)), [str(value) for value in rows])
        axes.set_xlabel(X_LABEL["n"], labelpad=1)
        axes.set_ylabel(Y_LABEL[y])
        fields = fields_of(shared)
        axes.set_title(describe(fields, list(fields)))
        axes.grid(False)
        axes.tick_params(length=0)
        top -= high + GAP_IN
    handles = legend_handles(campaign, [variant for variant in campaign.variants if variant in shown])
    for handle in handles:
        handle.set_linestyle("none")
    figure.legend(handles=handles, loc="lower center", ncol=4, frameon=False, bbox_to_anchor=(0.5, 0))
    return name, figure


def draw(campaign):
    figures = []
    for name, y, moving, held in MAPS:
        groups = grids(campaign, y, moving, held)[:MOST_MAPS]
        if groups:
            figures.append(draw_map(campaign, name if held != "head" else name + "_head", y, groups))
    return figures


if __name__ == "__main__":
    main(draw)
