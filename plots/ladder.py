"""The ladder of fused GPU kernels: what each rung was expected to reach, what it reached, what limits it."""

import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common import GREY, OKABE_ITO, PAGE_IN, fields_of, main, split_settings

TITLE = "The ladder of GPU kernels"
CAPTION = ("Useful floating-point operations per second of each rung, forward in 16 bits at head width 128 (column flops_per_s, "
           "with the interval of the median time), one idea after another. Grey: what was expected of it without a mask, from "
           "published kernels of the same design (plots/ladder.toml). Lines: peers of the same interleaved run.")
FEWEST_RUNGS, LEAST_N, HEAD_WIDTH = 3, 4096, 128
BAR_IN, FRAME_IN = 0.26, 0.95
INSIDE_FROM = 320  # TFLOP/s: in shorter bars words have no room
# Name, style of the line.
PEERS = {"peers/torch/cuda/cudnn": ("cuDNN", {"color": OKABE_ITO[1], "linestyle": "-"}),
         "peers/torch/cuda/flash": ("FlashAttention-2", {"color": OKABE_ITO[2], "linestyle": "--"})}


def read_rungs():
    return tomllib.loads((Path(__file__).parent / "ladder.toml").read_text(encoding="utf-8"))["rung"]


def points_of(campaign, rungs):
    """The longest point without a mask and the longest causal one that have enough rungs."""
    ok = campaign.ok
    names = {rung["variant"] for rung in rungs}
    rows = ok[ok.variant.isin(names) & (ok["pass"] == "fwd") & (ok.d_head == HEAD_WIDTH) & (ok.position == "none") &
              ok.dtype.isin(["bf16", "f16"]) & (ok.seq_q >= LEAST_N) & (ok.seq_q == ok.seq_kv) & ok.flops_per_s.notna()]
    points = []
    for mask in ("none", "causal"):
        own = rows[rows["mask"] == mask]
        full = [(len(group), group.seq_q.iloc[0], problem) for problem, group in own.groupby("problem")
                if group.variant.nunique() >= FEWEST_RUNGS]
        if full:
            points.append(max(full)[-1])
    return points


def draw_panel(axes, rows, rungs, with_limit):
    for place, rung in enumerate(rungs):
        low, high = rung["expected"]
        if with_limit:
            axes.barh(place, high - low, left=low, height=0.8, color="#dddddd", zorder=1)
        own = rows[rows.variant == rung["variant"]]
        if own.empty:
            axes.text(8, place, "not measured", va="center", color=GREY, fontsize=6.5, zorder=3)
            continue
        row = own.iloc[-1]
        rate = row.flops_per_s / 1e12
        spread = [[rate * (1 - row.time_s_median / row.time_s_ci_high)], [rate * (row.time_s_median / row.time_s_ci_low - 1)]]
        axes.barh(place, rate, height=0.5, color=OKABE_ITO[0], xerr=spread if row.time_s_ci_high > 0 else None,
                  error_kw={"elinewidth": 0.7, "capsize": 1.5}, zorder=2)
        inside = rate > INSIDE_FROM
        words = f"{rate:.0f}  {rung['limit'] if with_limit else ''}"
        axes.text(12 if inside else max(rate, high if with_limit else 0) + 12, place, words.strip(), va="center",
                  color="white" if inside else "black", fontsize=5.8, zorder=5)
    for name, (_, style) in PEERS.items():
        peer = rows[rows.variant == name]
        if len(peer):
            axes.axvline(peer.iloc[-1].flops_per_s / 1e12, linewidth=1, zorder=4, **style)
    axes.set_xlim(left=0)
    axes.set_xlabel("TFLOP/s", labelpad=1)
    axes.grid(axis="y", visible=False)


def draw(campaign):
    rungs = read_rungs()
    points = points_of(campaign, rungs)
    if not points:
        return []
    titles, shared = split_settings(points)
    height = BAR_IN * len(rungs) + FRAME_IN
    figure, axes = plt.subplots(1, len(points), figsize=(PAGE_IN, height), squeeze=False, sharey=True, sharex=True)
    for panel, point, title in zip(axes[0], points, titles):
        draw_panel(panel, campaign.ok[campaign.ok.problem == point], rungs, fields_of(point)["mask"] == "none")
        panel.set_title(title, pad=3)
    axes[0][0].set_yticks(range(len(rungs)), [f"{rung['variant'].removeprefix('flash/cuda/')}\n{rung['idea']}" for rung in rungs],
                          fontsize=5.8)
    axes[0][0].invert_yaxis()
    handles = [Patch(color=OKABE_ITO[0], label="measured"), Patch(color="#dddddd", label="expected")]
    handles += [Line2D([], [], label=label, **style) for label, style in PEERS.values()]
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, bbox_to_anchor=(0.5, 0.0))
    figure.text(0.5, 0.29 / height, shared, ha="center", fontsize=7, color=GREY)
    figure.subplots_adjust(left=2.0 / PAGE_IN, right=1 - 0.1 / PAGE_IN, top=1 - 0.22 / height, bottom=0.75 / height, wspace=0.06)
    return [("ladder", figure)]


if __name__ == "__main__":
    main(draw)
