"""Threats to the validity of a campaign, judged from its own files.

Every check says what was looked at and found, with a number, and which rows are affected; or that nothing was seen; or
that it cannot be judged, because a column is missing or empty.
"""

import re
from collections import Counter

import gpu_threats
import noise
from finding import CLEAR, SEEN, UNKNOWN, Finding, counted, found, lacks, percent, unknown

FEW_POINTS = 5       # a fit through fewer has an interval from one or two degrees of freedom
NEAR_BOUND = 0.5     # of the error bound


def reasons(texts):
    """How often each reason stands in "x: reason; x: reason" lists, numbers left out."""
    parts = [re.sub(r"^[\d.e+]+: ", "", part) for text in texts for part in text.split("; ")]
    kinds = Counter(re.sub(r" with exponent.*| at \d+$|, time steps.*", "", part) for part in parts)
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())


def excluded_points(data):
    fits = data.fits
    if fits.empty or "excluded" not in fits:
        return Finding(UNKNOWN, "fits.csv is missing or empty.")
    rows = fits[fits.excluded > 0]
    text = f"{int(fits.excluded.sum())} points are left out of {len(rows)} of {counted(len(fits), 'fit')}"
    why = reasons(rows.why_excluded.dropna().astype(str))
    text += f": {why}." if why else "."
    return found(rows, rows.why_excluded, text, str)


def cache_knees(data):
    fits = data.fits
    if fits.empty or "knees" not in fits:
        return Finding(UNKNOWN, "fits.csv is missing or empty.")
    rows = fits[fits.knees.notna() & (fits.knees != "")]
    text = f"{len(rows)} of {counted(len(fits), 'fit')} cross a step in time where the data leave a cache"
    why = reasons(rows.knees.astype(str))
    return found(rows, rows.knees, text + (f": {why}." if why else "."), str)


def short_fits(data):
    fits = data.fits
    if lacks(fits, "points"):
        return Finding(UNKNOWN, "fits.csv is missing or empty.")
    few = fits.points < FEW_POINTS
    text = (f"{few.sum()} of {counted(len(fits), 'fit')} have fewer than {FEW_POINTS} points (least {int(fits.points.min())}): "
            "their intervals are wide, and a bend would not show.")
    return found(fits[few], fits.points[few], text, lambda value: counted(int(value), "point"))


def above_roof(data):
    rows = data.ok
    if name := lacks(rows, "roof_fraction"):
        return unknown(name)
    above = rows.roof_fraction > 1
    text = (f"{above.sum()} of {counted(rows.roof_fraction.notna().sum(), 'row')} seem faster than the measured roof allows "
            f"(largest share {percent(rows.roof_fraction.max())}). Where that is seen, the roof or the time is wrong.")
    return found(rows[above], rows.roof_fraction[above], text)


def nondeterministic(data):
    rows = data.ok
    if name := lacks(rows, "deterministic"):
        return unknown(name)
    rows = rows[rows.deterministic.notna()]
    differs = rows.deterministic == "no"
    text = f"{differs.sum()} of {counted(len(rows), 'row')} gave other bits when called twice on the same inputs."
    return found(rows[differs], rows.deterministic[differs], text, lambda _: "other bits")


def near_bound(data):
    rows = data.ok
    if name := lacks(rows, "error_bound"):
        return unknown(name)
    near = rows.error_bound > NEAR_BOUND
    text = (f"Largest error over its bound {rows.error_bound.max():.2g}; {near.sum()} of "
            f"{counted(rows.error_bound.notna().sum(), 'row')} above {NEAR_BOUND}.")
    return found(rows[near], rows.error_bound[near], text, lambda value: f"{value:.2g} of the bound")


def not_measured(data):
    rows = data.results
    if name := lacks(rows, "status"):
        return unknown(name)
    lost = ~rows.status.isin(["ok", "unsupported"])
    kinds = rows.status[lost].value_counts()
    text = f"{lost.sum()} of {counted(len(rows), 'row')} were tried and have no time"
    text += f" ({', '.join(f'{count} {status}' for status, count in kinds.items())})." if len(kinds) else "."
    return found(rows[lost], rows.status[lost], text, str)


def no_common_rounds(data):
    rows = data.ok
    if name := lacks(rows, "ratio_to_baseline"):
        return unknown(name)
    compared = rows.point.isin(rows.point[rows.ratio_to_baseline.notna()])
    without = compared & rows.ratio_to_baseline.isna()
    no_interval = rows.ratio_to_baseline.notna() & (rows.ratio_ci_low.isna() if "ratio_ci_low" in rows else True)
    text = (f"{without.sum()} of {counted(compared.sum(), 'row')} at points with a baseline shared no round with it and have no "
            f"ratio; {no_interval.sum()} have a ratio without an interval.")
    affected = rows[without | no_interval]
    return found(affected, affected.ratio_to_baseline.isna(), text, lambda none: "no ratio" if none else "no interval")


def uncommitted(data):
    build = data.environment.get("build") or {}
    if build.get("dirty") is None:
        return Finding(UNKNOWN, "environment.json does not say whether the build had uncommitted changes.")
    commit = (build.get("commit") or "unknown")[:12]
    if build["dirty"]:
        return Finding(SEEN, f"The build had changes beyond commit {commit}: the source that was measured is not on record.")
    return Finding(CLEAR, f"The build is commit {commit} without changes.")


def several_machines(data):
    rows = data.results
    names = [name for name in ("machine", "node") if not lacks(rows, name)]
    if not names:
        return unknown("node")
    seen = {name: sorted(rows[name].dropna().unique()) for name in names}
    text = "; ".join(f"{counted(len(values), name)} ({', '.join(map(str, values))})" for name, values in seen.items())
    return Finding(SEEN if any(len(values) > 1 for values in seen.values()) else CLEAR, f"Rows come from {text}.")


def several_sessions(data):
    sessions = data.environment.get("sessions")
    if not sessions:
        return Finding(UNKNOWN, "environment.json lists no session.")
    end = sessions[-1].get("end") or "unknown"
    text = f"Measured in {counted(len(sessions), 'session')}, {sessions[0].get('start')} to {end}."
    return Finding(SEEN if len(sessions) > 1 else CLEAR, text)


def virtual_machine(data):
    hypervisor = (data.environment.get("cpu") or {}).get("hypervisor")
    if hypervisor is None:
        return Finding(UNKNOWN, "environment.json does not say whether a hypervisor runs below.")
    return Finding(SEEN if hypervisor else CLEAR, "The processor is shared through a hypervisor: neighbours, clock and placement "
                   "of threads cannot be controlled." if hypervisor else "No hypervisor below.")


CHECKS = [("Rows without a time", not_measured), ("Faster than the roof", above_roof), ("Wide intervals", noise.wide_intervals),
          ("Target not met", noise.target_missed), ("Few samples", noise.few_samples), ("A single process", noise.one_process),
          ("Spread between processes", noise.between_processes), ("Outliers", noise.outliers), ("Steal time", noise.steal_time),
          ("CPU pressure", noise.cpu_pressure), ("Clock and throttling", noise.clock), *gpu_threats.CHECKS, ("Virtual machine", virtual_machine),
          ("Several machines", several_machines), ("Several sessions", several_sessions),
          ("Uncommitted changes", uncommitted), ("Ratios to the baseline", no_common_rounds),
          ("Points left out of fits", excluded_points), ("Cache knees", cache_knees), ("Fits with few points", short_fits),
          ("Near the error bound", near_bound), ("Not deterministic", nondeterministic)]


def judge(data):
    """[(name, Finding)]: what was seen first, then what cannot be judged, then what is clear."""
    findings = [(name, check(data)) for name, check in CHECKS]
    return sorted(findings, key=lambda entry: [SEEN, UNKNOWN, CLEAR].index(entry[1].state))
