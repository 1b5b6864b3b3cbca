"""Time against the number of heads in both readings: heads that split a fixed width, and heads of a fixed width."""

from common import describe, fields_of, main
from panels import settings_on, sweep_figure

TITLE = "Time against h"
CAPTION = ("Left: the heads split a fixed model width, so the FLOPs stay flat. Right: every head has a fixed width, so "
           "they grow with h. Median time of one call with its 95 % interval; dotted: growth declared by the FLOPs.")


def draw(campaign):
    chosen, titles = [], []
    for axis, name in (("h_fixed_width", "fixed model width"), ("h_fixed_head", "fixed head width")):
        for setting in settings_on(campaign, axis, "time_s_median")[:1]:
            fields = fields_of(setting)
            width = "h·d = " + fields["hq*d"] if "hq*d" in fields else describe(fields, ["d"])
            chosen.append((axis, setting))
            titles.append(f"{name}: {width}")
    if not chosen:
        return []
    figure = sweep_figure(campaign, chosen, "time_s_median", 1e3, "time (ms)", "time", "time_s_ci_low",
                          "time_s_ci_high", titles=titles)
    return [("time_vs_h", figure)]


if __name__ == "__main__":
    main(draw)
