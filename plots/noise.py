"""Threats in the time itself: noise, few samples, processes, outliers, what the host did meanwhile, clocks."""

import pandas as pd

from finding import CLEAR, SEEN, Finding, counted, found, lacks, percent, unknown

HALF_WIDTH = 0.02    # the usual target of sampling (harness/measure/rounds.h)
LEAST_SAMPLES = 6    # fewer have no 95 % interval of the median
SHARE, LARGE_SHARE = 0.01, 0.05  # of steal time and CPU pressure
SLOW_CLOCK = 0.95    # of the median clock


def wide_intervals(data):
    rows = data.ok
    if name := lacks(rows, "time_s_median", "time_s_ci_low", "time_s_ci_high"):
        return unknown(name)
    rows = rows[rows.time_s_ci_low.notna()]
    half = pd.concat([rows.time_s_ci_high - rows.time_s_median, rows.time_s_median - rows.time_s_ci_low], axis=1)
    half = half.max(axis=1) / rows.time_s_median
    wide = half > HALF_WIDTH
    text = (f"Half widths of the 95 % intervals of the time: median {percent(half.median())}, worst {percent(half.max())}; "
            f"{wide.sum()} of {counted(len(rows), 'row')} above {percent(HALF_WIDTH)}.")
    return found(rows[wide], half[wide], text)


def target_missed(data):
    rows = data.ok
    if name := lacks(rows, "stop"):
        return unknown(name)
    missed = rows.stop.isin(["budget", "processes"])
    text = (f"{(rows.stop == 'budget').sum()} of {counted(len(rows), 'row')} stopped because the time budget was spent before the "
            f"answer was known; in {(rows.stop == 'processes').sum()} the processes differ by more than the target.")
    return found(rows[missed], rows.stop[missed], text, str)


def few_samples(data):
    rows = data.ok
    if name := lacks(rows, "samples"):
        return unknown(name)
    few = rows.samples < LEAST_SAMPLES
    text = (f"{few.sum()} of {counted(len(rows), 'row')} have fewer than {LEAST_SAMPLES} samples, and so no 95 % interval "
            f"(least {int(rows.samples.min())}, median {rows.samples.median():.0f}).")
    return found(rows[few], rows.samples[few], text, lambda value: counted(int(value), "sample"))


def one_process(data):
    rows = data.ok
    if name := lacks(rows, "processes"):
        return unknown(name)
    one = rows.processes < 2
    text = (f"{one.sum()} of {counted(len(rows), 'row')} were measured in a single process: their intervals do not hold what "
            "changes from one process to the next (pages, neighbours).")
    return found(rows[one], rows.processes[one], text, lambda value: counted(int(value), "process", "processes"))


def between_processes(data):
    rows = data.ok
    if name := lacks(rows, "time_s_sd_between", "time_s_median"):
        return unknown(name)
    rows = rows[rows.time_s_sd_between.notna()]
    spread = rows.time_s_sd_between / rows.time_s_median
    wide = spread > HALF_WIDTH
    text = (f"Standard deviation between processes over the median: median {percent(spread.median())}, worst "
            f"{percent(spread.max())}; {wide.sum()} of {counted(len(rows), 'row')} above {percent(HALF_WIDTH)}.")
    return found(rows[wide], spread[wide], text)


def outliers(data):
    rows = data.ok
    if name := lacks(rows, "outliers", "samples"):
        return unknown(name)
    share = rows.outliers / rows.samples
    has = rows.outliers > 0
    text = (f"{int(rows.outliers.sum())} of {int(rows.samples.sum())} samples "
            f"({percent(rows.outliers.sum() / rows.samples.sum())}) are labelled outliers, in {counted(has.sum(), 'row')}; "
            "none is left out of a statistic.")
    return found(rows[has], share[has], text)


def session_share(data, key):
    """The worst share over the sessions of the campaign, or None; older files hold the counters of steal time."""
    shares = []
    for session in data.environment.get("sessions", []):
        before, after = session.get("steal_start"), session.get("steal_end")
        if session.get(key) is not None:
            shares.append(session[key])
        elif key == "steal_fraction" and before and after and after["all_jiffies"] > before["all_jiffies"]:
            shares.append((after["steal_jiffies"] - before["steal_jiffies"]) / (after["all_jiffies"] - before["all_jiffies"]))
    return max(shares) if shares else None


def host_share(data, name, what):
    rows, whole = data.ok, session_share(data, name)
    if lacks(rows, name):
        finding = unknown(name)
        if whole is not None:
            state = SEEN if whole > SHARE else CLEAR
            finding = Finding(state, f"{what} over the whole session: {percent(whole)}. Column {name} is missing or "
                                     "empty, so single rows cannot be judged.")
        return finding
    rows = rows[rows[name].notna()]
    above = rows[name] > SHARE
    text = (f"{what}: worst {percent(rows[name].max())}; {above.sum()} of {counted(len(rows), 'row')} above {percent(SHARE)}, "
            f"{(rows[name] > LARGE_SHARE).sum()} above {percent(LARGE_SHARE)}.")
    return found(rows[above], rows[name][above], text)


def steal_time(data):
    return host_share(data, "steal_fraction", "CPU time taken by other virtual machines")


def cpu_pressure(data):
    return host_share(data, "cpu_pressure", "Share of the time in which a task waited for a CPU")


def clock(data):
    if name := lacks(data.samples, "clock_hz"):
        return unknown(name, "samples.csv")
    rows = data.ok.drop_duplicates(["point", "variant"])
    kinds = [name for name in ("device", "node", "machine") if not lacks(rows, name)]
    samples = data.samples[data.samples.clock_hz.notna()].merge(rows[["point", "variant", "problem", *kinds]],
                                                                on=["point", "variant"])
    median = samples.groupby(kinds, dropna=False).clock_hz.transform("median") if kinds else samples.clock_hz.median()
    share = samples.clock_hz / median
    slow = share < SLOW_CLOCK
    text = (f"Clock over its median: {percent(share.min())} to {percent(share.max())}; {slow.sum()} of "
            f"{counted(len(samples), 'sample')} below {percent(SLOW_CLOCK)} (throttling, or other load).")
    worst = samples.assign(share=share)[slow].groupby(["point", "variant"], sort=False)
    worst = worst.agg(problem=("problem", "first"), share=("share", "min")).reset_index()
    return found(worst, worst.share, text, lambda value: f"down to {percent(value)}")
