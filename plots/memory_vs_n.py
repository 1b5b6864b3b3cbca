"""Workspace against sequence length."""

from matplotlib.lines import Line2D

from common import GREY, main
from panels import PANELS_PER_FIGURE, settings_on, sweep_figure

TITLE = "Memory against n"
CAPTION = ("Scratch memory observed beyond inputs and outputs, with the growth that plan() declares (dotted); variants "
           "without any scratch are absent. Grey: inputs and outputs, for comparison.")


def draw(campaign):
    column = "memory_workspace_peak_bytes"
    settings = settings_on(campaign, "n", column)[:PANELS_PER_FIGURE]
    if not settings:
        return []
    operands = Line2D([], [], color=GREY, linewidth=1.6, alpha=0.6, label="inputs and outputs")
    figure = sweep_figure(campaign, [("n", setting) for setting in settings], column, 2.0**-20, "workspace (MiB)",
                          "workspace", extra=[operands])
    for axes, setting in zip(figure.axes, settings):
        rows = campaign.ok[campaign.ok.setting_n == setting].drop_duplicates("seq_q").sort_values("seq_q")
        axes.plot(rows.seq_q, rows.memory_operands_bytes * 2.0**-20, color=GREY, linewidth=1.6, alpha=0.6, zorder=0)
    return [("memory_vs_n", figure)]


if __name__ == "__main__":
    main(draw)
