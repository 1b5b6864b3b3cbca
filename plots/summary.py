"""What a campaign asked and what came out, in sentences and small tables derived from its CSV files."""

import tomllib
from pathlib import Path

import pandas as pd

from common import PASSES, describe, fields_of, split_settings
from finding import counted
from tables import digits

AXIS_WORDS = {"n": "n", "d": "d", "h_fixed_width": "h, fixed h·d", "h_fixed_head": "h, fixed d"}
QUANTITIES = {"time": "time", "workspace": "workspace", "total_memory": "operands and workspace", "flops": "FLOPs"}
PRESETS = Path(__file__).resolve().parent.parent / "harness" / "presets"
MOST_GROWTHS, MOST_CROSSOVERS = 10, 3
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def listed(words, last="and"):
    words = list(words)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def span(values):
    """Few values one by one, many by their ends."""
    values = sorted(set(values))
    if len(values) <= 3:
        return listed(str(value) for value in values)
    return f"{values[0]} to {values[-1]} ({len(values)} values)"


def problem_words(row):
    fields = fields_of(row.problem)
    first = [name for name in ("nq", "nk", "hq", "hk", "d", "dv", "mask", "pos", "pass") if name in fields]
    return describe(fields, first + [name for name in fields if name not in first and name not in ("b", "dtype")])


def description(environment):
    """The preset's own words, where the campaign's first command names a preset of this program."""
    sessions = environment.get("sessions") or [{}]
    words = str(sessions[0].get("campaign_command") or environment.get("command_line") or "").split()
    for word in words[1:]:
        path = PRESETS / f"{word}.toml"
        if word.replace("-", "").isalnum() and path.is_file():
            return f"{word}: {tomllib.loads(path.read_text(encoding='utf-8')).get('description', '')}"
    return ""


def question(campaign):
    """Two sentences: what is asked, over which variants and ranges."""
    rows, fits = campaign.results, campaign.fits
    if rows.empty:
        return "The campaign has no row."
    axes = list(dict.fromkeys(axis[0] for axis in AXIS_WORDS if not fits.empty and (fits.axis == axis).any()))
    asked = "How long does each variant take, and how much memory?"
    if axes:
        asked = (f"How do time and memory of attention grow with {listed(axes)}, and does each "
                 "variant grow as its own FLOPs and planned bytes say?")
    threads = span(int(value) for value in rows.threads.dropna())
    threads = f"; {threads} {'thread' if threads == '1' else 'threads'}" if threads else ""
    positions = [position for position in rows.position.unique() if position != "none"]
    sizes = "; ".join(f"{name} = {span(int(value) for value in rows[column].unique())}"
                      for name, column in (("n", "seq_q"), ("h", "heads_q"), ("d", "d_head")))
    masks = listed(("no mask" if mask == "none" else mask for mask in rows["mask"].unique()), "or")
    measured = (f"{counted(len(campaign.variants), 'variant')} ({listed(campaign.variants)}) at "
                f"{counted(rows.problem.nunique(), 'problem')}: {sizes}; "
                f"{masks}{'; position ' + listed(positions, 'or') if positions else ''}; "
                f"{listed(PASSES.get(name, name) for name in rows['pass'].unique())}; "
                f"{listed(DTYPES.get(name, name) for name in rows.dtype.unique())}{threads}.")
    return f"{asked} {measured}"


def fitted(campaign, quantity="time"):
    fits = campaign.fits
    if fits.empty:
        return fits
    return fits[(fits.quantity == quantity) & fits.exponent.notna()]


def growth_table(campaign):
    """Exponents of time at a glance: a row per sweep, a column per variant. Longest sweeps first, axis by axis."""
    fits = fitted(campaign)
    if fits.empty:
        return None
    axes = list(AXIS_WORDS)
    sweeps = fits.groupby(["axis", "setting"]).points.sum().reset_index()
    sweeps = sweeps.assign(order=sweeps.axis.map(axes.index), back=sweeps.setting.str.contains("pass=bwd"),
                           masked=~sweeps.setting.str.contains("mask=none"),
                           positioned=~sweeps.setting.str.contains("pos=none"))
    sweeps = sweeps.sort_values(["order", "back", "positioned", "masked", "points", "setting"],
                                ascending=[True, True, True, True, False, True])
    words = {}
    for axis in sweeps.axis.unique():
        settings = list(sweeps.setting[sweeps.axis == axis])
        own, shared = split_settings(settings)
        words.update(((axis, setting), text or shared) for setting, text in zip(settings, own))
    variants = [variant for variant in campaign.variants if (fits.variant == variant).any()]
    share = len(sweeps) if len(sweeps) <= MOST_GROWTHS else MOST_GROWTHS // sweeps.axis.nunique()
    shown = pd.concat(group.head(share) for _, group in sweeps.groupby("order"))
    rows = []
    for sweep in shown.itertuples():
        cells = [campaign.fit(variant, sweep.axis, "time", sweep.setting) for variant in variants]
        rows.append({"axis": AXIS_WORDS[sweep.axis], "sweep": words[sweep.axis, sweep.setting], "setting": sweep.setting,
                     "cells": cells})
    return {"variants": variants, "rows": rows, "more": len(sweeps) - len(rows)}


def growth_sentence(campaign):
    fits = fitted(campaign)
    if fits.empty:
        return None
    counts = fits.verdict.value_counts()
    words = [f"{counts[verdict]} {one if counts[verdict] == 1 else many}" for verdict, one, many in
             (("agrees", "agrees with the declared growth", "agree with the declared growth"),
              ("differs", "differs", "differ"),
              ("too few points", "has too few points", "have too few points"),
              ("unknown", "has nothing to compare with", "have nothing to compare with")) if verdict in counts]
    return ("Growth", f"Of {counted(len(fits), 'fitted exponent')} of time, {listed(words)}.", "#fits")


def fastest_sentence(campaign):
    """How often each variant is fastest where two or more were measured, and by how much."""
    rows = campaign.ok[campaign.ok.time_s_median.notna()]
    wins, leads = {}, []
    keys = ["problem", "threads"] + (["machine"] if "machine" in rows and rows.machine.notna().any() else [])
    clear = 0
    for _, group in rows.groupby(keys, dropna=False):
        if group.variant.nunique() < 2:
            continue
        ordered = group.sort_values("time_s_median")
        first, second = ordered.iloc[0], ordered.iloc[1]
        wins[first.variant] = wins.get(first.variant, 0) + 1
        clear += first.time_s_ci_high < ordered.time_s_ci_low.iloc[1:].min()
        leads.append((second.time_s_median / first.time_s_median, first, second))
    if not leads:
        return None
    ranked = sorted(wins.items(), key=lambda entry: -entry[1])
    ratios = pd.Series([lead for lead, _, _ in leads])
    lead, first, second = max(leads, key=lambda entry: entry[0])
    text = (f"{ranked[0][0]} at {ranked[0][1]} of {len(leads)} points with two variants or more"
            + "".join(f", {variant} at {count}" for variant, count in ranked[1:4])
            + f"; at {clear} of them its interval overlaps no other. The next takes {ratios.median():.2f} times as long in "
              f"the median, at most {lead:.3g} times ({second.variant} against {first.variant}, {problem_words(first)}).")
    return ("Fastest", text, "#results")


def crossover_sentence(campaign):
    rows = campaign.crossovers
    if rows.empty:
        return None
    rows = rows[rows.quantity == "time"]
    sure = rows[rows.verdict == "crosses"]
    if rows.empty:
        return None
    sure = sure.assign(width=sure.crossover_ci_high / sure.crossover_ci_low).sort_values("width")
    told = [f"{row.variant_b} is faster than {row.variant_a} from {row.axis} = {digits(row.crossover, 3)} "
            f"[{digits(row.crossover_ci_low, 3)}, {digits(row.crossover_ci_high, 3)}] on "
            f"({describe(fields_of(row.setting), ['hq', 'd', 'mask', 'pos', 'pass'])})"
            for row in sure.head(MOST_CROSSOVERS).itertuples()]
    rest = rows.verdict.value_counts()
    counts = listed(f"{count} {'cross' if verdict == 'crosses' else verdict}" for verdict, count in rest.items())
    start = "; ".join(told) + ". " if told else "None in time is certain. "
    return ("Crossovers", f"{start}Of {len(rows)} pairs in time: {counts}.", "#crossovers")


def memory_sentence(campaign):
    """The widest gap in operands plus workspace between two variants on one problem."""
    rows = campaign.ok
    if rows.empty or "memory_workspace_peak_bytes" not in rows:
        return None
    rows = rows.assign(bytes=rows.memory_operands_bytes + rows.memory_workspace_peak_bytes)
    rows = rows[rows.bytes > 0]
    groups = rows.groupby(["problem", "threads"]).bytes
    ratio = groups.max() / groups.min()
    if ratio.empty or ratio.max() < 1.05:
        return None
    problem, threads = ratio.idxmax()
    group = rows[(rows.problem == problem) & (rows.threads == threads)].sort_values("bytes")
    least, most = group.iloc[0], group.iloc[-1]
    text = (f"Operands and workspace differ most at {problem_words(most)}: {most.variant} takes {digits(most.bytes / 2**20, 3)} "
            f"MiB, {ratio.max():.3g} times that of {least.variant} ({digits(least.bytes / 2**20, 3)} MiB).")
    return ("Memory", text, "#results")


def roof_sentence(campaign):
    rows = campaign.ok
    if "roof_fraction" not in rows or rows.roof_fraction.isna().all():
        return None
    rows = rows[rows.roof_fraction.notna()]
    best = rows.loc[rows.groupby("variant").roof_fraction.idxmax()].sort_values("roof_fraction", ascending=False)
    parts = [f"{row.variant} {100 * row.roof_fraction:.0f} %" for row in best.head(5).itertuples()]
    impossible = (rows.roof_fraction > 1).sum()
    note = f" {impossible} rows above 100 % are impossible: see the threats." if impossible else ""
    text = f"Best share of the measured roof: {', '.join(parts)} (the first at {problem_words(best.iloc[0])}).{note}"
    return ("Roof", text, "#results")


def error_sentence(campaign):
    rows = campaign.results
    if rows.empty or rows.error_bound.isna().all():
        return None
    checked = rows[rows.error_bound.notna()]
    disagree = (rows.status == "disagrees").sum()
    worst = checked.loc[checked.error_bound.idxmax()]
    text = (f"{len(checked)} rows checked against float64, {disagree} {'disagrees' if disagree == 1 else 'disagree'}; the largest "
            f"error is {worst.error_bound:.2g} of its bound ({worst.variant}, {problem_words(worst)}).")
    return ("Error", text, "#results")


def telling_numbers(campaign):
    """[(topic, sentence, link)]"""
    sentences = [growth_sentence(campaign), fastest_sentence(campaign), crossover_sentence(campaign), memory_sentence(campaign),
                 roof_sentence(campaign), error_sentence(campaign)]
    return [sentence for sentence in sentences if sentence]


def verdict_counts(campaign):
    """[(what is counted, table, column, quantity or "", [(value, count)])] for the overview."""
    counts = [("Rows", "results", "status", "", campaign.results)]
    for title, table, rows in (("Exponents of", "fits", campaign.fits), ("Crossovers in", "crossovers", campaign.crossovers)):
        counts += [(f"{title} {words}", table, "verdict", quantity, rows[rows.quantity == quantity])
                   for quantity, words in QUANTITIES.items() if len(rows)]
    return [(*what, list(rows[what[2]].value_counts().items())) for *what, rows in counts if len(rows)]


def predictions(results):
    """Predicted over measured, by variant: median and quartiles, as texts; empty where nothing was predicted."""
    rows = []
    for variant, group in results[results.status == "ok"].groupby("variant"):
        row = {"variant": variant}
        for name, predicted, actual in (("time", "time_s_predicted", "time_s_median"),
                                        ("memory", "memory_process_predicted_bytes", "memory_process_peak_bytes")):
            ratio = (group[predicted] / group[actual]).dropna() if predicted in group else pd.Series(dtype=float)
            row[f"rows_{name}"] = str(len(ratio))
            for label, share in (("median", 0.5), ("quartile_1", 0.25), ("quartile_3", 0.75)):
                row[f"{name}_ratio_{label}"] = repr(float(ratio.quantile(share))) if len(ratio) else ""
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame if len(rows) and (frame.rows_time.astype(int) + frame.rows_memory.astype(int)).sum() else pd.DataFrame()
