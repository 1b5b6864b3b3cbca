"""Rates at a fixed number of tokens: the batch shrinks as the sequence grows, as papers on fused kernels measure."""

from matplotlib.lines import Line2D

from common import GREY, X_LABEL, main, split_settings
from panels import PANELS_PER_FIGURE, legend_handles, make_grid, power_of_two_ticks

TITLE = "Rates at a fixed number of tokens"
CAPTION = ("Useful floating-point operations per second (column flops_per_s) with the interval of the median time, against the "
           "sequence length at the same number of tokens. Dotted: the roof of the same run, where computing bounds.")
LEAST_LENGTHS = 2


def setting_of(row):
    """What is held: everything but the batch and the lengths, with their product instead."""
    fields = [field for field in row.problem.split(",") if field.split("=")[0] not in ("b", "nq", "nk")]
    return ",".join([f"b*n={row.batch * row.seq_q}", *fields])


def sweeps(campaign):
    """[(setting, rows)] of sweeps whose batch changes with the length: forward first, then by mask, position and head width."""
    rows = campaign.ok[(campaign.ok.seq_q == campaign.ok.seq_kv) & campaign.ok.flops_per_s.notna()].copy()
    if rows.empty:
        return []
    rows["held"] = [setting_of(row) for row in rows.itertuples()]
    found = [(held, group) for held, group in rows.groupby("held")
             if group.seq_q.nunique() >= LEAST_LENGTHS and group.batch.nunique() == group.seq_q.nunique()]
    return sorted(found, key=lambda entry: tuple(entry[1].iloc[0][name] for name in ("dtype", "position", "mask")) +
                  (entry[1].iloc[0]["pass"] == "bwd", entry[1].iloc[0].d_head))


def draw_panel(axes, campaign, rows, scale):
    for variant in campaign.variants:
        own = rows[rows.variant == variant].drop_duplicates("seq_q", keep="last").sort_values("seq_q")
        if own.empty:
            continue
        rate = own.flops_per_s / scale
        low, high = (rate * own.time_s_median / own[name] for name in ("time_s_ci_high", "time_s_ci_low"))
        axes.errorbar(own.seq_q, rate, yerr=[(rate - low).clip(lower=0).fillna(0), (high - rate).clip(lower=0).fillna(0)],
                      elinewidth=0.7, capsize=1.5, **campaign.style(variant))
    bounded = rows[(rows.bound == "compute") & (rows.roof_fraction > 0)]
    if len(bounded):
        axes.axhline((bounded.flops_per_s / bounded.roof_fraction).median() / scale, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0)
    power_of_two_ticks(axes, rows.seq_q)


def draw(campaign):
    found = sweeps(campaign)
    figures = []
    scale, unit = (1e12, "TFLOP/s") if found and max(rows.flops_per_s.max() for _, rows in found) >= 1e12 else (1e9, "GFLOP/s")
    for first in range(0, len(found), PANELS_PER_FIGURE):
        page = found[first:first + PANELS_PER_FIGURE]
        titles, shared = split_settings([held for held, _ in page])
        drawn = [variant for variant in campaign.variants if any((rows.variant == variant).any() for _, rows in page)]
        roof = Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="roof")
        figure, axes = make_grid(len(page), legend_handles(campaign, drawn, [roof]), shared, share_y=True)
        for panel, (_, rows), title in zip(axes, page, titles):
            draw_panel(panel, campaign, rows, scale)
            panel.set_title(title if len(page) > 1 else "", pad=3)
            panel.set_xlabel(X_LABEL["n"], labelpad=1)
        columns = min(len(page), 3)
        for panel in axes[::columns]:
            panel.set_ylabel(unit)
        figures.append((f"tokens{'' if first == 0 else first // PANELS_PER_FIGURE + 1}", figure))
    return figures


if __name__ == "__main__":
    main(draw)
