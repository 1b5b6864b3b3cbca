"""Writes a synthetic campaign for the tests of the figures: python3 synthetic_campaign.py DIR [--small].

Times follow simple laws with noise from a fixed seed; nothing in it was measured.
"""

import csv
import math
import random
import sys
from pathlib import Path

COLUMNS = """schema campaign point variant family device fidelity status reason problem scope pass dtype batch heads_q
heads_kv seq_q seq_kv d_model d_head d_value mask position density threads time_s_median time_s_ci_low time_s_ci_high
time_s_min samples rounds ratio_to_baseline ratio_ci_low ratio_ci_high flops_useful flops_executed flops_per_s
roof_fraction bound bytes_min bytes_moved_model complexity_time complexity_memory memory_operands_bytes
memory_workspace_planned_bytes memory_workspace_peak_bytes memory_process_peak_bytes memory_method error_rel_l2
error_max_abs error_bound error_vs_dense_rel_l2 deterministic seed clock_hz_mean repro""".split()
# FLOP/s, bytes of scratch per score, fixed cost in s
VARIANTS = {"plain/synthetic": (3e9, 0, 4e-6), "stored/synthetic": (5.5e10, 4, 2.5e-5), "tiled/synthetic": (9e10, 0, 1.2e-5),
            "sparse/synthetic": (8e10, 0, 3e-5)}
ROOF = 1.6e11
SAMPLES, ROUNDS = 12, 6


def pairs(mask, n):
    if mask == "none":
        return n * n
    if mask == "causal":
        return n * (n + 1) // 2
    return sum(min(i, 255) + 1 for i in range(n))


def make_row(variant, n, h, d, mask="none", position="none", direction="fwd"):
    rate, score_bytes, fixed_s = VARIANTS[variant]
    problem = (f"b=1,hq={h},hk={h},nq={n},nk={n},d={d},dv={d},dtype=f32,pass={direction},mask={mask},pos={position}")
    visible = pairs(mask, n)
    skips = variant in ("sparse/synthetic", "plain/synthetic") or variant == "tiled/synthetic" and mask == "causal"
    factor = 4 if direction == "fwd" else 10
    executed = factor * h * d * (min(n * n, visible + 64 * n) if skips else n * n)
    operands = 4 * h * n * d * 4 * (1 if direction == "fwd" else 2) + 4 * h * n
    workspace = score_bytes * h * n * n + (2 * 65536 + (4 * h * n if direction == "bwd" else 0))
    if variant == "plain/synthetic":
        workspace = 2 * 4 * n
    return {"schema": 2, "campaign": "synthetic", "variant": variant, "family": "dense", "device": "cpu",
            "fidelity": "exact", "status": "ok", "problem": problem, "scope": "core", "pass": direction, "dtype": "f32",
            "batch": 1, "heads_q": h, "heads_kv": h, "seq_q": n, "seq_kv": n, "d_model": h * d, "d_head": d, "d_value": d,
            "mask": mask, "position": position, "density": visible / n**2, "threads": 2,
            "flops_useful": factor * h * d * visible, "flops_executed": executed, "bytes_min": operands,
            "bytes_moved_model": operands, "complexity_time": "O(h n^2 d)", "complexity_memory": "O(n)",
            "memory_operands_bytes": operands, "memory_workspace_planned_bytes": workspace,
            "memory_workspace_peak_bytes": workspace, "memory_process_peak_bytes": operands + workspace + 30_000_000,
            "memory_method": "operands and workspace: own allocations; process: VmHWM", "deterministic": "yes", "seed": 1,
            "repro": f"attnbench check --variants '^{variant}$' --problem '{problem}'",
            "point": problem.replace(",", "_").replace("=", ""),
            "_time": fixed_s + executed / rate * (1.06 if position != "none" else 1)}


def make_problems(small):
    rows = []
    top = 2048 if small else 16384
    for mask in ("none", "causal", "causal+window:255:0"):
        n = 128
        while n <= top:
            for variant in VARIANTS:
                rows.append(make_row(variant, n, 8, 64, mask))
            n *= 2
    for n in (128, 256, 512, 1024) if small else (128, 256, 512, 1024, 2048, 4096):
        for variant in VARIANTS:
            rows.append(make_row(variant, n, 8, 64, "causal", "alibi"))
            rows.append(make_row(variant, n, 8, 64, "none", "none", "bwd"))
            if not small:
                rows.append(make_row(variant, n, 8, 64, "none", "shaw:16"))
                rows.append(make_row(variant, n, 8, 64, "causal", "none", "bwd"))
                rows.append(make_row(variant, n, 8, 64, "padding:75%", "t5:32:128"))
    for variant in list(VARIANTS)[1:]:
        rows += [make_row(variant, 512, 8, d) for d in (16, 32, 64, 128)]
        rows += [make_row(variant, 512, h, 512 // h) for h in (2, 4, 8, 16, 32)]
        rows += [make_row(variant, 512, h, 64) for h in (1, 2, 4, 8, 16)]
    unique = {(row["variant"], row["problem"]): row for row in rows}
    return list(unique.values())


def fail(row, status, reason):
    row.update(status=status, reason=reason)


def set_status(row, top):
    variant, n = row["variant"], row["seq_q"]
    if variant == "plain/synthetic" and n >= top:
        fail(row, "timed_out", "no result within 20 s")
    elif variant == "stored/synthetic" and n >= top and row["mask"] == "causal":
        fail(row, "out_of_memory", "needs 8.6 GB, 4.2 GB are free")
    elif variant == "sparse/synthetic" and row["position"] == "alibi":
        fail(row, "unsupported", "no ALiBi in this variant")
    elif variant == "tiled/synthetic" and row["pass"] == "bwd" and n == 256:
        fail(row, "disagrees", "d_k: largest error is 3.1 times its bound")


def measure(row, noise):
    """Samples of one row and the columns that follow from them."""
    row["error_rel_l2"] = 2.5e-7 * math.sqrt(row["seq_q"] / 128) * noise.uniform(0.8, 1.25)
    row["error_max_abs"] = row["error_rel_l2"] / 3
    row["error_bound"] = 3.1 if row["status"] == "disagrees" else noise.uniform(0.02, 0.45)
    if row["status"] != "ok":
        return []
    base = row["_time"] * math.exp(noise.gauss(0, 0.012))
    times = [base * math.exp(abs(noise.gauss(0, 0.02))) for _ in range(SAMPLES)]
    ordered = sorted(times)
    median = (ordered[SAMPLES // 2 - 1] + ordered[SAMPLES // 2]) / 2
    row.update(time_s_median=median, time_s_ci_low=ordered[2], time_s_ci_high=ordered[-3], time_s_min=ordered[0],
               samples=SAMPLES, rounds=ROUNDS, flops_per_s=row["flops_useful"] / median,
               roof_fraction=row["flops_useful"] / median / ROOF, bound="compute", clock_hz_mean=2.9e9)
    return [{"point": row["point"], "variant": row["variant"], "round": k // (SAMPLES // ROUNDS),
             "sample": k % (SAMPLES // ROUNDS), "time_s": f"{time:.6g}", "clock_hz": ""} for k, time in enumerate(times)]


def write(path, columns, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    folder, small = Path(sys.argv[1]), "--small" in sys.argv
    noise = random.Random(1)
    rows = make_problems(small)
    samples = []
    for row in rows:
        set_status(row, 2048 if small else 16384)
        if row["status"] in ("ok", "disagrees"):
            samples += measure(row, noise)
    baseline = {row["problem"]: row for row in rows if row["variant"] == "stored/synthetic" and row["status"] == "ok"}
    for row in rows:
        if row["status"] == "ok" and row["problem"] in baseline:
            row["ratio_to_baseline"] = row["time_s_median"] / baseline[row["problem"]]["time_s_median"]
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        row.update({key: f"{value:.6g}" for key, value in row.items() if isinstance(value, float)})
    write(folder / "results.csv", COLUMNS, rows)
    write(folder / "samples.csv", ["point", "variant", "round", "sample", "time_s", "clock_hz"], samples)
    (folder / "environment.json").write_text(
        '{"cpu": {"model": "none: synthetic data", "usable_threads": 2}, "roofs": {"by_threads": '
        '[{"threads": 2, "fma_f32_flops_per_s": 1.6e11, "exp_f32_per_s": 6e9, "level_bytes": {"L1": 65536, "DRAM": 8e9}, '
        '"read_bytes_per_s": {"L1": 3.6e11, "DRAM": 2e10}, "copy_bytes_per_s": {"L1": 1.8e11, "DRAM": 1.1e10}}]}}\n')


main()
