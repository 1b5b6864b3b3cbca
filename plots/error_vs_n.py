"""Error against sequence length, the worst over all settings of a variant at each n."""

from matplotlib.lines import Line2D

from common import GREY, PASSES, X_LABEL, main
from panels import legend_handles, log_y, make_grid, power_of_two_ticks

TITLE = "Error against n"
CAPTION = ("Worst row of each variant at each n, over all masks, positions and shapes. Left: relative L2 error against "
           "the float64 oracle. Right: largest error divided by its bound; above 1 a row disagrees.")


def draw(campaign):
    rows = campaign.results[campaign.results.error_rel_l2.notna() & (campaign.results.error_rel_l2 > 0)]
    if rows.empty:
        return []
    passes = [name for name in PASSES if (rows["pass"] == name).any()]
    variants = [variant for variant in campaign.variants if (rows.variant == variant).any()]
    limit = Line2D([], [], color=GREY, linewidth=1, label="bound")
    figure, axes = make_grid(2 * len(passes), legend_handles(campaign, variants, [limit]), "", columns=2, share_y=False,
                             panel_height_in=1.5, left_in=0.75)
    for row, name in enumerate(passes):
        left, right = axes[2 * row], axes[2 * row + 1]
        for variant in variants:
            own = rows[(rows.variant == variant) & (rows["pass"] == name)]
            worst = own.groupby("seq_q")[["error_rel_l2", "error_bound"]].max()
            left.plot(worst.index, worst.error_rel_l2, **campaign.style(variant))
            right.plot(worst.index, worst.error_bound, **campaign.style(variant))
        right.axhline(1, color=GREY, linewidth=1)
        for panel, label in ((left, "relative L2 error"), (right, "error / bound")):
            power_of_two_ticks(panel, rows[rows["pass"] == name].seq_q)
            log_y(panel)
            panel.set_ylabel(label)
            panel.set_title(PASSES[name], pad=3)
        left.set_xlabel(X_LABEL["n"], labelpad=1)
        right.set_xlabel(X_LABEL["n"], labelpad=1)
    return [("error_vs_n", figure)]


if __name__ == "__main__":
    main(draw)
