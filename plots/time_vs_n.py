"""Time against sequence length, a panel per mask, position and pass."""

from common import main
from panels import pages, settings_on, sweep_figure

TITLE = "Time against n"
CAPTION = ("Median time of one call with its 95 % interval. Dotted: growth declared by the variant's FLOPs, through its "
           "last point. The number at a curve's end is its fitted exponent (fits.csv).")


def draw(campaign):
    figures = []
    for index, settings in enumerate(pages(settings_on(campaign, "n", "time_s_median"))):
        figure = sweep_figure(campaign, [("n", setting) for setting in settings], "time_s_median", 1e3, "time (ms)",
                              "time", "time_s_ci_low", "time_s_ci_high")
        figures.append((f"time_vs_n_{index + 1}" if index else "time_vs_n", figure))
    return figures


if __name__ == "__main__":
    main(draw)
