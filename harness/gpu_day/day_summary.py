"""summary.txt: what was checked and measured, on about a page; with --markdown the tables of a README.

python3 day_summary.py DIR [--markdown] prints them for the folder of a campaign.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "plots"))

import ratios

EXPLAINED = ("Below: TFLOP/s of useful work and its share of the roof; then how much faster than a peer, the peer's time over ours, "
             "by round, with the 95 % interval of the median. Alone: one call on an idle GPU, launched plainly / as a graph.")
PASSES = {"fwd": "forward", "bwd": "backward"}


def setting_of(row):
    """What the rows of one table have in common, in words."""
    words = [row["dtype"], PASSES[row["pass"]], f"d = {row['d_head']}", "no mask" if row["mask"] == "none" else row["mask"]]
    words += [row["position"]] if row["position"] != "none" else []
    words += [f"{row['heads_q']} heads on {row['heads_kv']}"] if row["heads_q"] != row["heads_kv"] else []
    words += [f"nk = {row['seq_kv']}"] if row["seq_q"] != row["seq_kv"] else []
    return ", ".join([*words, f"h·d = {int(row['heads_q']) * int(row['d_head'])}"])


def batch_of(members):
    """How many tokens, or batch entries, the rows have; empty where that differs."""
    for text, values in (("b·n = {}", {int(row["batch"]) * int(row["seq_q"]) for row in members}),
                         ("b = {}", {int(row["batch"]) for row in members})):
        if len(values) == 1:
            return ", " + text.format(*values)
    return ""


def rate(row):
    """TFLOP/s of the useful work, and the share of the roof where one was measured."""
    share = row.get("roof_fraction")
    return f"{float(row['flops_per_s']) / 1e12:.4g}" + (f" ({100 * float(share):.0f} %)" if share else "")


def ratio_text(row):
    if row["ratio_ci_low"] is None:
        return f"{row['ratio']:.2f}"
    return f"{row['ratio']:.2f} [{row['ratio_ci_low']:.2f}, {row['ratio_ci_high']:.2f}]"


def latency(row):
    """Microseconds of one call alone, and of its replay; empty where neither was measured."""
    found = [f"{1e6 * float(row[name]):.1f}" for name in ("latency_s_median", "latency_graph_s_median") if row.get(name)]
    return f"{' / '.join(found)} us" if found and row["launch"] == "graph" else ""


def tables_of(results, samples):
    """[(title, lengths, [(label, [cell])])]: a table per setting, a column per length: rates, ratios and, of graphs, latencies."""
    rows = [row for row in results if row["status"] == "ok" and row["flops_per_s"]]
    compared = defaultdict(dict)
    for row in ratios.ratios_of(results, samples):
        compared[row["point"]][row["variant"], row["peer"]] = row
    groups = defaultdict(list)
    for row in rows:
        groups[setting_of(row)].append(row)
    tables = []
    for title, members in groups.items():
        lengths = sorted({int(row["seq_q"]) for row in members})
        cells, pairs, alone = defaultdict(dict), defaultdict(dict), defaultdict(dict)
        for row in members:
            length = int(row["seq_q"])
            cells[row["variant"]][length] = rate(row)
            if latency(row):
                alone[row["variant"]][length] = latency(row)
            for pair, found in compared[row["point"]].items():
                pairs[pair][length] = ratio_text(found)
        lines = [(name, cells[name]) for name in sorted(cells, key=lambda name: (ratios.is_peer(name), name))]
        lines += [(f"{own} against {short(peer)}", pairs[own, peer]) for own, peer in sorted(pairs)]
        lines += [(f"{name} alone", alone[name]) for name in sorted(alone)]
        tables.append((title + batch_of(members), lengths, [(label, [found.get(n, "") for n in lengths]) for label, found in lines]))
    return tables


def short(peer):
    return peer.removeprefix("peers/").replace("/cuda", "")


def as_text(title, lengths, lines):
    label_width = max(len(label) for label, _ in lines) + 2
    widths = [max(len(str(n)) + 4, *(len(cells[k]) for _, cells in lines)) + 2 for k, n in enumerate(lengths)]
    text = [title, " " * label_width + "".join(f"n = {n}".rjust(width) for n, width in zip(lengths, widths))]
    text += [label.ljust(label_width) + "".join(cell.rjust(width) for cell, width in zip(cells, widths)) for label, cells in lines]
    return "\n".join(text)


def as_markdown(title, lengths, lines):
    text = [f"{title}:", "", "| | " + " | ".join(f"n = {n}" for n in lengths) + " |", "| --- |" + " ---: |" * len(lengths)]
    text += [f"| `{label}` | " + " | ".join(cells) + " |" for label, cells in lines]
    return "\n".join(text)


def not_ok(results):
    """Rows without a time that were supported, counted by variant and status."""
    counts = defaultdict(int)
    for row in results:
        if row["status"] not in ("ok", "unsupported"):
            counts[row["variant"], row["status"], row["reason"][:100]] += 1
    return [f"{variant}: {count} rows {status}: {reason}" for (variant, status, reason), count in sorted(counts.items())]


def machine(folder):
    """Card, libraries and the card's roofs, as environment.json has them."""
    path = Path(folder) / "environment.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    gpu = found.get("gpu") or {}
    lines = [gpu["name"]] if gpu.get("name") else []
    lines += [f"{name} {version}" for name, version in (found.get("libraries") or {}).items() if ratios.is_peer(name)]
    for name, value in ((found.get("roofs") or {}).get("gpu") or {}).items():
        scale, unit = (1e12, " T") if name.endswith("_per_s") else (1, " ")
        lines += [f"roof {name}: {value / scale:.4g}{unit}".rstrip()] if value else []
    return lines


def correctness(state):
    """Counts of the matrix and what failed."""
    lines = [f"{'variant':40}{'type':>6}{'suite':>7}{'cases':>7}{'failures':>10}{'error/bound':>13}  verdict"]
    for row in sorted(state["checks"].values(), key=lambda row: (ratios.is_peer(row["variant"]), row["variant"], row["type"])):
        if row.get("cases", "") in ("", "0") and row["verdict"] == "ok":
            continue  # nothing of this type is supported
        lines.append(f"{row['variant']:40}{row['type']:>6}{row['suite']:>7}{row.get('cases', ''):>7}{row.get('failures', ''):>10}"
                     f"{row.get('worst_error_over_bound', ''):>13}  {row['verdict']}")
    for row in state["checks"].values():
        if row["verdict"] != "ok":
            lines += [f"{row['verdict']}: {row['rerun']}", *(f"    {line}" for line in row["failed"][:4])]
    ran = state["sanitizer"].values()
    if ran:
        lines.append(f"compute-sanitizer: {sum(row['verdict'] == 'ok' for row in ran)} of {len(ran)} runs found nothing")
        lines += [f"{row['verdict']}: {row['command']}" for row in ran if row["verdict"] != "ok"]
    return lines


def write(day, presets):
    """OUT/summary.txt, its text, and ratios.csv in every campaign's folder."""
    parts = ["CORRECTNESS", *correctness(day.state), "", EXPLAINED]
    for preset in presets:
        for folder in day.folders(preset):
            if not (folder / "results.csv").is_file():
                continue
            ratios.write(folder)
            results = ratios.read_csv(folder / "results.csv")
            parts += ["", folder.name.upper(), *machine(folder), *not_ok(results)]
            for table in tables_of(results, ratios.read_csv(folder / "samples.csv")):
                parts += ["", as_text(*table)]
    text = "\n".join(parts) + "\n"
    (day.out / "summary.txt").write_text(text, encoding="utf-8")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--markdown", action="store_true", help="tables of a README")
    options = parser.parse_args()
    folder = Path(options.folder)
    if not (folder / "results.csv").is_file():
        sys.exit(f"{folder}: no results.csv here; expected the folder of a campaign")
    results, samples = ratios.read_csv(folder / "results.csv"), ratios.read_csv(folder / "samples.csv")
    show = as_markdown if options.markdown else as_text
    print("\n\n".join(show(*table) for table in tables_of(results, samples)))


if __name__ == "__main__":
    main()
