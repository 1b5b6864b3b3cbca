"""How much faster variants are than the peers at the same points: python3 plots/ratios.py DIR writes DIR/ratios.csv.

A ratio is the peer's time over the variant's, paired by round: above 1 the variant is faster. Its interval is the one of
order statistics, 95 %, wide enough to hold the median of every process. Python's standard library is enough, so that a
machine that only measures can tell as well.
"""

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median

COLUMNS = ["point", "problem", "threads", "variant", "peer", "ratio", "ratio_ci_low", "ratio_ci_high", "rounds"]
COVERAGE = 0.95


def is_peer(variant):
    return variant.startswith("peers/")


def read_csv(path):
    """Rows as dictionaries; none where the file is missing. A torn last line is left out."""
    if not Path(path).is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def interval(values):
    """Interval of the median: the narrowest pair of order statistics that holds it with the coverage; none below six values."""
    ordered, count = sorted(values), len(values)
    below, cut = 0.0, -1  # chance that at most `cut` values lie below the median
    while below + math.comb(count, cut + 1) / 2**count <= (1 - COVERAGE) / 2:
        cut += 1
        below += math.comb(count, cut) / 2**count
    return (ordered[cut], ordered[count - 1 - cut]) if cut >= 0 else None


def by_round(samples):
    """{(point, variant): {(process, round): mean time}}. Samples on warm caches belong to another time."""
    times = defaultdict(lambda: defaultdict(list))
    for row in samples:
        if row.get("cache") != "hot":
            times[row["point"], row["variant"]][row.get("process", ""), row["round"]].append(float(row["time_s"]))
    return {key: {place: fmean(values) for place, values in rounds.items()} for key, rounds in times.items()}


def compare(own, other):
    """(ratio, low, high, rounds) of two series by round; low and high are None where too few rounds are common."""
    ratios = {place: other[place] / own[place] for place in own if place in other}
    if not ratios:
        return None
    bounds = interval(list(ratios.values()))
    if bounds:
        processes = defaultdict(list)
        for (process, _), ratio in ratios.items():
            processes[process].append(ratio)
        medians = [median(values) for values in processes.values()]
        bounds = min(bounds[0], *medians), max(bounds[1], *medians)
    return median(ratios.values()), *(bounds or (None, None)), len(ratios)


def ratios_of(results, samples):
    """Rows of ratios.csv: every variant that is no peer against every peer, at points where both have times."""
    times = by_round(samples)
    points = defaultdict(list)
    for row in results:
        if row["status"] == "ok":
            points[row["point"]].append(row)
    rows = []
    for point, measured in points.items():
        for own in measured:
            for other in measured:
                if is_peer(own["variant"]) or not is_peer(other["variant"]):
                    continue
                found = compare(times.get((point, own["variant"]), {}), times.get((point, other["variant"]), {}))
                if found:
                    rows.append(dict(zip(COLUMNS, [point, own["problem"], own["threads"], own["variant"], other["variant"], *found])))
    return rows


def write(folder):
    """DIR/ratios.csv, only where there is a ratio."""
    folder = Path(folder)
    rows = ratios_of(read_csv(folder / "results.csv"), read_csv(folder / "samples.csv"))
    if not rows:
        return rows
    with open(folder / "ratios.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()})
    return rows


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: ratios.py DIR (the folder of a campaign)")
    print(f"{len(write(sys.argv[1]))} ratios")
