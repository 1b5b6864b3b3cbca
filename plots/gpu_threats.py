"""Threats to times measured on a GPU: throttling, cold against hot caches, launches, memory past the workspace."""

import functools

from finding import CLEAR, UNKNOWN, Finding, counted, found, lacks, percent, unknown

CACHE_MATTERS = 0.1     # of the cold time
FEW_LAUNCHES = 10       # a call shorter than so many empty kernels is mostly launches
HOST_SHARE = 0.5        # of the latency of one call
OUTSIDE_SHARE = 0.05    # of operands and workspace


def of_gpu(check):
    """A check of the rows of a GPU: clear where there are none."""
    @functools.wraps(check)
    def judged(data):
        if name := lacks(data.ok, "device"):
            return unknown(name)
        rows = data.ok[data.ok.device == "cuda"]
        return check(data, rows) if len(rows) else Finding(CLEAR, "No row was measured on a GPU.")
    return judged


def reasons_of(samples, rows):
    """How often each reason stands among the throttled samples of the rows: "power_cap (3)"."""
    if lacks(samples, "throttled"):
        return ""
    of_rows = samples.merge(rows[["point", "variant"]], on=["point", "variant"])
    marks = of_rows.throttled[of_rows.throttled.notna() & (of_rows.throttled != "no")]
    return ", ".join(f"{reason} ({count})" for reason, count in marks.value_counts().items())


@of_gpu
def throttled(data, rows):
    if name := lacks(rows, "samples_throttled", "samples"):
        return unknown(name)
    rows = rows[rows.samples_throttled.notna()]
    share = rows.samples_throttled / rows.samples
    has = rows.samples_throttled > 0
    text = (f"During {int(rows.samples_throttled.sum())} of {int(rows.samples.sum())} samples the driver slowed the GPU down, in "
            f"{counted(has.sum(), 'row')}; none is left out of a statistic.")
    why = reasons_of(data.samples, rows[has])
    return found(rows[has], share[has], text + (f" Why: {why}." if why else ""))


@of_gpu
def cold_and_hot(_, rows):
    if name := lacks(rows, "time_hot_s_median", "time_s_median"):
        return unknown(name)
    rows = rows[rows.time_hot_s_median.notna()]
    gain = 1 - rows.time_hot_s_median / rows.time_s_median
    differs = gain.abs() > CACHE_MATTERS
    text = (f"Times are of calls that find no operand in the cache; with hot caches they are {percent(gain.median())} shorter in "
            f"the median, {percent(gain.max())} at most; {differs.sum()} of {counted(len(rows), 'row')} differ by more than "
            f"{percent(CACHE_MATTERS)}.")
    return found(rows[differs], gain[differs], text, lambda value: f"hot {percent(value)} shorter")


@of_gpu
def mostly_launches(data, rows):
    launch_s = ((data.environment.get("roofs") or {}).get("gpu") or {}).get("launch_s")
    if not launch_s or lacks(rows, "time_s_median"):
        return Finding(UNKNOWN, "environment.json does not say how long an empty kernel takes.")
    launches = rows.time_s_median / launch_s
    short = launches < FEW_LAUNCHES
    text = (f"An empty kernel takes {launch_s * 1e6:.2g} us; {short.sum()} of {counted(len(rows), 'row')} take less than "
            f"{FEW_LAUNCHES} times that: their times are mostly those of launches.")
    return found(rows[short], launches[short], text, lambda value: f"{value:.1f} launches")


@of_gpu
def host_latency(_, rows):
    if name := lacks(rows, "latency_s_median", "time_hot_s_median"):
        return unknown(name)
    rows = rows[rows.latency_s_median.notna()]
    share = 1 - rows.time_hot_s_median / rows.latency_s_median
    slow = share > HOST_SHARE
    text = (f"Times are of calls that follow one another. One call alone, until the host knows its end, takes longer: launch and "
            f"waiting are {percent(max(share.median(), 0))} of that in the median row, more than {percent(HOST_SHARE)} in {slow.sum()} of "
            f"{counted(len(rows), 'row')}.")
    return found(rows[slow], share[slow], text, lambda value: f"{percent(value)} launch and waiting")


@of_gpu
def past_the_workspace(_, rows):
    names = ("memory_process_peak_bytes", "memory_operands_bytes", "memory_workspace_planned_bytes")
    if name := lacks(rows, *names):
        return unknown(name)
    booked = rows.memory_operands_bytes + rows.memory_workspace_planned_bytes
    share = rows.memory_process_peak_bytes / booked - 1
    beyond = share > OUTSIDE_SHARE
    text = (f"Device memory beyond operands and booked workspace: {percent(max(share.max(), 0))} of them at most; above "
            f"{percent(OUTSIDE_SHARE)} in {beyond.sum()} of {counted(share.notna().sum(), 'row')} (libraries that allocate for "
            "themselves, pages of small problems).")
    return found(rows[beyond], share[beyond], text)


CHECKS = [("Throttled samples", throttled), ("Cold and hot caches", cold_and_hot), ("Mostly launches", mostly_launches),
          ("Latency of one call", host_latency),
          ("Device memory past the workspace", past_the_workspace)]
