"""Variants against families of problems: worst error / bound, disagreements, refusals."""

import re

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from common import COLUMN_IN, PAGE_IN, PASSES, main

TITLE = "Agreement with the oracle"
CAPTION = ("Worst error divided by its bound over all rows of a family. Hatched: unsupported. Framed and bold: a row "
           "disagrees. Dot: not ok for another reason (time, memory, crash). Blank: not in this campaign.")


def family(row):
    """Mask, position and pass without their numbers."""
    mask = "+".join(part.split(":")[0] for part in str(row["mask"]).split("+"))
    parts = [mask if mask != "none" else "no mask"]
    parts += [re.sub(r":.*", "", str(row["position"]))] if row["position"] != "none" else []
    parts += [row["dtype"]] if row["dtype"] != "f32" else []
    parts += ["block"] if row["scope"] == "block" else []
    return ", ".join(parts + [PASSES[row["pass"]]])


def cell_of(rows):
    """(worst error / bound or NaN, kind)."""
    worst = rows.error_bound.max()
    if (rows.status == "disagrees").any():
        return worst, "disagrees"
    if worst == worst:
        return worst, "ok"
    if (rows.status == "unsupported").all():
        return np.nan, "unsupported"
    return np.nan, "failed"


def draw_cell(axes, x, y, value, kind, norm):
    if kind == "unsupported":
        axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="////",
                                     linewidth=0))
        return
    if kind == "failed":
        axes.plot([x], [y], marker=".", color="black")
        return
    dark = value == value and norm(value) > 0.55
    text = "nan" if value != value else f"{value:.2g}"
    weight = "bold" if kind == "disagrees" else "normal"
    axes.text(x, y, text, ha="center", va="center", fontsize=6.5, fontweight=weight,
              color="white" if dark else "black")
    if kind == "disagrees":
        axes.add_patch(plt.Rectangle((x - 0.45, y - 0.43), 0.9, 0.86, fill=False, edgecolor="#D55E00", linewidth=1.8))


def draw(campaign):
    rows = campaign.results
    if rows.empty or rows.error_bound.isna().all():
        return []
    rows = rows.sort_values(["pass", "position", "mask"], ascending=[False, True, True])
    rows = rows.assign(family_name=[family(row) for row in rows.to_dict("records")])
    families = list(dict.fromkeys(rows.family_name))
    longest = max(len(name) for name in families)
    left_in, bottom_in, row_in = 0.35 + 0.062 * max(len(name) for name in campaign.variants), 0.1 + 0.046 * longest, 0.24
    width = min(PAGE_IN, max(COLUMN_IN, left_in + 0.8 + 0.4 * len(families)))
    left_in = max(left_in, 0.056 * longest * 0.8)
    height = bottom_in + row_in * len(campaign.variants) + 0.2
    figure = plt.figure(figsize=(width, height))
    body = (bottom_in / height, row_in * len(campaign.variants) / height)
    axes = figure.add_axes([left_in / width, body[0], 1 - (left_in + 0.7) / width, body[1]])
    norm = LogNorm(1e-3, 1)
    values = np.full((len(campaign.variants), len(families)), np.nan)
    kinds = {}
    for (variant, name), group in rows.groupby(["variant", "family_name"]):
        y, x = campaign.variants.index(variant), families.index(name)
        values[y, x], kinds[y, x] = cell_of(group)
    image = axes.imshow(np.clip(values, 1e-3, 1), norm=norm, cmap="Blues", aspect="auto")
    for (y, x), kind in kinds.items():
        draw_cell(axes, x, y, values[y, x], kind, norm)
    axes.grid(False)
    axes.set_xticks(range(len(families)), families, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(campaign.variants)), campaign.variants)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, cax=figure.add_axes([1 - 0.62 / width, body[0], 0.09 / width, body[1]]))
    bar.set_label("error / bound", fontsize=7)
    return [("agreement", figure)]


if __name__ == "__main__":
    main(draw)
