"""What more heads cost: time, workspace, bytes of scores and exponentials against h, beside theory."""

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from common import GREY, PAGE_IN, X_LABEL, describe, fields_of, main
from panels import draw_curves, drawn_variants, label_ends, legend_handles, log_y, power_of_two_ticks, settings_on

TITLE = "What more heads cost"
CAPTION = ("Left: the heads split a fixed model width. FLOPs do not grow with h, while bytes of scores and exponentials "
           "grow as h: a fused kernel pays for the exponentials, a variant that stores its scores for the bytes too. "
           "Right: every head has a fixed width, and all grow as h. Measured: time (median of one call, 95 % interval) "
           "and workspace (largest in a call); numbers at the curves are fitted exponents, dotted lines the growth that "
           "the variant declares. Counts, not measured: 4 bytes a visible pair and head if all scores are stored, one "
           "exponential a visible pair and head, useful FLOPs, and bytes of q, k, v and the output; each with its exact "
           "power of h. Thin grey lines beside the times: those counts of FLOPs and exponentials at the machine's "
           "measured roofs.")

AXES = (("h_fixed_width", "fixed model width"), ("h_fixed_head", "fixed head width"))
MEASURED = (("time_s_median", 1e3, "time (ms)", "time", "time_s_ci_low", "time_s_ci_high"),
            ("memory_workspace_peak_bytes", 2.0**-20, "workspace (MiB)", "workspace", None, None))
FLOPS_LINE, EXPS_LINE, SCORES_LINE, OPERANDS_LINE = (0, (4, 2)), "-", "-", (0, (1, 1))
DARK = "#333333"
HEIGHT_IN, LEFT_IN = 7.2, 0.62


def pair_settings(campaign):
    """[(setting at a fixed width, setting at a fixed head)] with everything else but the widths the same."""
    def rest(setting):
        return tuple(item for item in fields_of(setting).items() if item[0] not in ("hq*d", "d", "dv", "hq", "hk", "dm"))

    heads = {}
    for setting in settings_on(campaign, "h_fixed_head", "time_s_median"):
        heads.setdefault(rest(setting), setting)
    pairs = {}
    for setting in settings_on(campaign, "h_fixed_width", "time_s_median"):
        if rest(setting) in heads:
            pairs.setdefault(rest(setting), (setting, heads[rest(setting)]))
    return list(pairs.values())


def counts(campaign, axis, setting):
    """What theory counts for each h: one row an h, whatever the variant."""
    rows = campaign.ok[campaign.ok["setting_" + axis] == setting].drop_duplicates("heads_q").sort_values("heads_q").copy()
    rows["exps"] = rows.batch * rows.heads_q * rows.density * rows.seq_q * rows.seq_kv
    rows["score_bytes"] = 4 * rows.exps
    width = {"f32": 4}.get(rows.dtype.iloc[0], 2)
    rows["tensor_bytes"] = width * rows.batch * (rows.seq_q * rows.heads_q * (rows.d_head + rows.d_value) +
                                                 rows.seq_kv * rows.heads_kv * (rows.d_head + rows.d_value))
    return rows


def roofs(campaign, threads):
    for entry in campaign.environment.get("roofs", {}).get("by_threads", []):
        if entry.get("threads") == threads:
            return entry
    return {}


def power_of_h(rows, column):
    return "$\\propto h$" if rows[column].iloc[-1] > 1.01 * rows[column].iloc[0] else "flat"


def count_line(axes, rows, column, scale, line, word):
    axes.plot(rows.heads_q, rows[column] * scale, color=DARK, linestyle=line, linewidth=1.0)
    return (rows.heads_q.iloc[-1], rows[column].iloc[-1] * scale, f"{word} {power_of_h(rows, column)}", DARK)


def roof_lines(axes, campaign, rows):
    """Useful FLOPs and exponentials at the roofs, in ms."""
    known = roofs(campaign, rows.threads.iloc[0])
    for column, rate, line in (("flops_useful", "fma_f32_flops_per_s", FLOPS_LINE), ("exps", "exp_f32_per_s", EXPS_LINE)):
        if known.get(rate) and rows[column].notna().all():
            axes.plot(rows.heads_q, 1e3 * rows[column] / known[rate], color=GREY, linestyle=line, linewidth=0.7, zorder=1)


def draw_column(column, campaign, axis, setting):
    """Four panels, top to bottom; returns the labels of each."""
    rows = counts(campaign, axis, setting)
    labels = []
    for axes, (quantity, scale, _, name, low, high) in zip(column, MEASURED):
        if name == "time":
            roof_lines(axes, campaign, rows)
        labels.append(draw_curves(axes, campaign, axis, setting, quantity, scale, name, low, high)[0])
    labels.append([count_line(column[2], rows, "score_bytes", 2.0**-20, SCORES_LINE, "scores"),
                   count_line(column[2], rows, "tensor_bytes", 2.0**-20, OPERANDS_LINE, "q, k, v, o")])
    labels.append([count_line(column[3], rows, "flops_useful", 1e-9, FLOPS_LINE, "FLOPs"),
                   count_line(column[3], rows, "exps", 1e-9, EXPS_LINE, "exps")])
    for axes in column[2:]:
        power_of_two_ticks(axes, rows.heads_q)
        log_y(axes)
    return labels


def legend(campaign, settings):
    variants = [variant for variant in campaign.variants
                if any(variant in drawn_variants(campaign, axis, [setting]) for axis, setting in settings)]
    lines = [(GREY, (0, (1, 1.5)), 0.8, "declared growth, through the last point"),
             (GREY, FLOPS_LINE, 0.7, "useful FLOPs at the multiply-add roof"),
             (GREY, EXPS_LINE, 0.7, "exponentials at the exponential roof"),
             (DARK, "-", 1.0, "counts (theory)")]
    return legend_handles(campaign, variants, [Line2D([], [], color=colour, linestyle=line, linewidth=width, label=label)
                                               for colour, line, width, label in lines])


def heads_figure(campaign, pair):
    settings = [(axis, setting) for (axis, _), setting in zip(AXES, pair)]
    figure, grid = plt.subplots(4, 2, figsize=(PAGE_IN, HEIGHT_IN), sharex="col", sharey="row")
    figure.subplots_adjust(left=LEFT_IN / PAGE_IN, right=1 - 0.08 / PAGE_IN, top=1 - 0.22 / HEIGHT_IN,
                           bottom=0.92 / HEIGHT_IN, hspace=0.1, wspace=0.06)
    handles = legend(campaign, settings)
    figure.legend(handles=handles, loc="lower center", ncol=3, frameon=False, bbox_to_anchor=(0.5, 0.16 / HEIGHT_IN),
                  handlelength=2.6, columnspacing=1.4, labelspacing=0.25, borderaxespad=0.1)
    fields = fields_of(pair[0])
    note = describe(fields, [name for name in ("mask", "pos", "pass", "b", "nq", "nk", "dtype", "threads") if name in fields])
    figure.text(0.5, 0.05 / HEIGHT_IN, note, ha="center", va="bottom", fontsize=7, color="#444444")
    parts = [draw_column(grid[:, k], campaign, axis, setting) for k, (axis, setting) in enumerate(settings)]
    for k, (axis, setting) in enumerate(settings):
        held = fields_of(setting)
        width = "h·d = " + held["hq*d"] if axis == "h_fixed_width" else "d = " + held["d"]
        grid[0, k].set_title(f"{AXES[k][1]}: {width}", pad=3)
        grid[3, k].set_xlabel(X_LABEL[axis], labelpad=1)
        left, right = grid[0, k].get_xlim()
        grid[0, k].set_xlim(left, right * (right / left) ** 0.24)
        for axes in grid[:3, k]:
            axes.tick_params(labelbottom=False)
    for axes, label in zip(grid[:, 0], [measured[2] for measured in MEASURED] + ["bytes (MiB)", "operations (10⁹)"]):
        axes.set_ylabel(label)
        axes.yaxis.set_label_coords(-0.125, 0.5)
    for row in range(4):
        for k in range(2):
            label_ends(grid[row, k], parts[k][row])
    return figure


def draw(campaign):
    """A figure for each of the first two masks."""
    figures, masks = [], set()
    for pair in pair_settings(campaign):
        mask = fields_of(pair[0])["mask"]
        if mask in masks or len(masks) == 2:
            continue
        masks.add(mask)
        name = "heads" if not figures else "heads_" + "".join(c if c.isalnum() else "_" for c in mask)
        figures.append((name, heads_figure(campaign, pair)))
    return figures


if __name__ == "__main__":
    main(draw)
