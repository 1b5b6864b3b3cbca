"""Who is fastest where, and from which n on one variant overtakes another."""

import matplotlib.pyplot as plt
import numpy as np

from common import PAGE_IN, X_LABEL, main, split_settings
from panels import legend_handles, power_of_two_ticks, settings_on

TITLE = "Crossovers"
CAPTION = ("Top: the fastest variant at each n; the number is how many times as long the next one takes. Bottom: the n from "
           "which the second variant is faster than the first, with its 95 % interval over its common range (grey); an "
           "arrow: the interval's end lies outside the range; diamond: the crossover of their FLOPs. See crossovers.csv.")
LEFT_IN, RIGHT_IN = 2.2, 0.15
MAP_ROW_IN, LIST_ROW_IN = 0.26, 0.19
MOST_SETTINGS, MOST_PAIRS = 14, 16


def fastest(campaign, setting):
    """(n, variant, ratio of the second to it, or NaN) for each n."""
    rows = campaign.ok[(campaign.ok.setting_n == setting) & campaign.ok.time_s_median.notna()]
    found = []
    for n, group in rows.groupby("seq_q"):
        ordered = group.drop_duplicates("variant", keep="last").sort_values("time_s_median")
        times = ordered.time_s_median.to_numpy()
        found.append((n, ordered.variant.iloc[0], times[1] / times[0] if len(times) > 1 else np.nan))
    return found


def draw_map(axes, campaign, settings, titles):
    sizes = sorted(campaign.ok[campaign.ok.setting_n.isin(settings)].seq_q.unique())
    for y, setting in enumerate(settings):
        for n, variant, ratio in fastest(campaign, setting):
            x, style = sizes.index(n), campaign.style(variant)
            axes.add_patch(plt.Rectangle((x - 0.48, y - 0.44), 0.96, 0.88, color=style["color"], alpha=0.3, linewidth=0))
            axes.plot([x - 0.27], [y], marker=style["marker"], color=style["color"], markersize=4)
            if ratio == ratio:
                axes.text(x + 0.1, y, f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×", ha="center", va="center", fontsize=6.5)
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    axes.set_yticks(range(len(settings)), titles)
    axes.set_xlabel(X_LABEL["n"], labelpad=1)
    axes.grid(False)
    axes.tick_params(length=0)


def chosen_pairs(campaign, settings):
    table = campaign.crossovers
    if table.empty:
        return table
    table = table[(table.quantity == "time") & (table.axis == "n") & table.verdict.isin(["crosses", "uncertain"]) & table.setting.isin(settings)]
    return table.sort_values(["verdict", "setting", "variant_b", "variant_a"]).head(MOST_PAIRS)


def draw_pairs(axes, campaign, pairs, title_of):
    labels = []
    for y, pair in enumerate(pairs.itertuples()):
        low, high = pair.crossover_ci_low, pair.crossover_ci_high
        style = campaign.style(pair.variant_b)
        axes.plot([pair.range_from, pair.to], [y, y], color="#cccccc", linewidth=3, solid_capstyle="butt", zorder=1)
        start, end = (low if low == low else pair.range_from), (high if high == high else pair.to)
        axes.plot([start, end], [y, y], color=style["color"], linewidth=1.2, zorder=2)
        for edge, missing, marker in ((start, low != low, "<"), (end, high != high, ">")):
            if missing:
                axes.plot([edge], [y], marker=marker, color=style["color"], markersize=3.5, zorder=3)
        axes.plot([pair.crossover], [y], marker=style["marker"], color=style["color"], zorder=4)
        if pair.theory_crossover > pair.range_from:
            axes.plot([pair.theory_crossover], [y], marker="D", markerfacecolor="none", color="black", markersize=5, zorder=3)
        labels.append(f"{pair.variant_b} over {pair.variant_a}" + (f"\n{title_of[pair.setting]}" if len(title_of) > 1 else ""))
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_yticks(range(len(pairs)), labels, fontsize=6)
    power_of_two_ticks(axes, campaign.ok.seq_q[campaign.ok.setting_n != ""])
    axes.set_xlabel(X_LABEL["n"], labelpad=1)
    axes.grid(axis="y", visible=False)


def draw(campaign):
    settings = settings_on(campaign, "n", "time_s_median")[:MOST_SETTINGS]
    if not settings:
        return []
    titles, shared = split_settings(settings)
    titles = [title or "all" for title in titles]
    pairs = chosen_pairs(campaign, settings).rename(columns={"from": "range_from"})
    winners = {variant for setting in settings for _, variant, _ in fastest(campaign, setting)}
    winners |= set(pairs.variant_b) if len(pairs) else set()
    map_in = MAP_ROW_IN * len(settings)
    list_in = LIST_ROW_IN * 1.35 * len(pairs)
    height = 0.1 + map_in + 0.42 + (list_in + 0.42 if len(pairs) else 0) + 0.45
    figure = plt.figure(figsize=(PAGE_IN, height))
    span = [LEFT_IN / PAGE_IN, 1 - (LEFT_IN + RIGHT_IN) / PAGE_IN]
    top = figure.add_axes([span[0], 1 - (0.1 + map_in) / height, span[1], map_in / height])
    draw_map(top, campaign, settings, titles)
    if len(pairs):
        bottom = figure.add_axes([span[0], 0.87 / height, span[1], list_in / height])
        draw_pairs(bottom, campaign, pairs, dict(zip(settings, titles)))
    handles = legend_handles(campaign, [variant for variant in campaign.variants if variant in winners])
    for handle in handles:
        handle.set_linestyle("none")
    figure.legend(handles=handles, loc="lower center", ncol=4, frameon=False, bbox_to_anchor=(0.5, 0.16 / height))
    figure.text(0.5, 0.05 / height, shared, ha="center", va="bottom", fontsize=7, color="#444444")
    return [("crossover_map", figure)]


if __name__ == "__main__":
    main(draw)
