"""Achieved FLOP/s, and the time at the measured roof over the time taken."""

from matplotlib.ticker import PercentFormatter

from common import X_LABEL, main, split_settings
from panels import drawn_variants, legend_handles, log_y, make_grid, power_of_two_ticks, settings_on

TITLE = "Achieved FLOP/s"
CAPTION = ("Top: useful floating-point operations per second, masked pairs not counted (column flops_per_s). Bottom: the "
           "least time by the roofs measured on the same machine (multiply-adds, exponentials or memory, whichever takes "
           "longest) over the measured time (columns roof_fraction and bound).")
COLUMNS = 3


def draw_row(axes, campaign, setting, column, scale):
    rows = campaign.ok[(campaign.ok.setting_n == setting) & campaign.ok[column].notna()]
    for variant in drawn_variants(campaign, "n", [setting]):
        own = rows[rows.variant == variant].drop_duplicates("seq_q", keep="last").sort_values("seq_q")
        axes.plot(own.seq_q, own[column] * scale, **campaign.style(variant))
    power_of_two_ticks(axes, campaign.ok[campaign.ok.setting_n == setting].seq_q)


def draw(campaign):
    settings = settings_on(campaign, "n", "flops_per_s")[:COLUMNS]
    if not settings:
        return []
    with_roof = campaign.ok.roof_fraction.notna().any()
    titles, shared = split_settings(settings)
    handles = legend_handles(campaign, drawn_variants(campaign, "n", settings))
    rows = 2 if with_roof else 1
    figure, axes = make_grid(rows * len(settings), handles, shared, columns=len(settings), share_y="row",
                             panel_height_in=1.5)
    for column, (setting, title) in enumerate(zip(settings, titles)):
        top = axes[column]
        draw_row(top, campaign, setting, "flops_per_s", 1e-9)
        log_y(top)
        top.set_title(title if len(settings) > 1 else "", pad=3)
        bottom = axes[len(settings) + column] if with_roof else top
        if with_roof:
            draw_row(bottom, campaign, setting, "roof_fraction", 1)
            bottom.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        bottom.set_xlabel(X_LABEL["n"], labelpad=1)
    axes[0].set_ylabel("GFLOP/s")
    if with_roof:
        axes[-1].set_ylim(bottom=0)
        axes[len(settings)].set_ylabel("share of the roof")
    return [("flops", figure)]


if __name__ == "__main__":
    main(draw)
