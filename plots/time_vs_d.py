"""Time against the width of a head at a fixed number of heads; the model width grows with it."""

from common import main
from panels import PANELS_PER_FIGURE, settings_on, sweep_figure

TITLE = "Time against d"
CAPTION = ("Median time of one call with its 95 % interval against the head width at a fixed number of heads; the model "
           "width h·d has the same exponent. Dotted: growth declared by the variant's FLOPs.")


def draw(campaign):
    settings = settings_on(campaign, "d", "time_s_median")[:PANELS_PER_FIGURE]
    if not settings:
        return []
    figure = sweep_figure(campaign, [("d", setting) for setting in settings], "time_s_median", 1e3, "time (ms)", "time",
                          "time_s_ci_low", "time_s_ci_high")
    return [("time_vs_d", figure)]


if __name__ == "__main__":
    main(draw)
