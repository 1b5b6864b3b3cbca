"""Reads what ptxas says of each CUDA kernel: fails where one spills registers, keeps a stack frame or exceeds the committed
tests/cuda_resources.csv, and where the compiler itself sees a loss. Of kernels with wgmma, also the number of its
instructions and of those for exponentials has to stay (sass_counts.py). No GPU is needed.

    spill_gate.py NVCC SOURCE_DIR OBJECT...            check what the build kept beside its objects (harness/keep_ptxas.sh)
    spill_gate.py NVCC SOURCE_DIR SOURCE...            compile, and check that
    spill_gate.py NVCC SOURCE_DIR --write OBJECT...    write the file's rows of these objects, or sources, anew: after a change
                                                       that is meant

Counts belong to a compiler: with another nvcc than the file's, only spills and the list of kernels are judged.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import sass_counts

ARCHITECTURES = ["sm_80", "sm_90a"]
# The build's own flags; -lineinfo and warnings do not change code.
FLAGS = ["-std=c++20", "-O3", "-Xptxas", "-v", "--cubin"]
FIELDS = ["nvcc", "source", "architecture", "kernel", "registers", "spill_bytes", "stack_bytes", *sass_counts.FIELDS]


def compile_one(nvcc, root, source, architecture):
    with tempfile.TemporaryDirectory() as folder:
        cubin = os.path.join(folder, "kernels.cubin")
        command = [nvcc, *FLAGS, "-arch=" + architecture, "-I", root, os.path.join(root, source), "-o", cubin]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode != 0:
            sys.exit("spill gate: compilation failed: " + " ".join(command) + "\n" + result.stdout)
        with open(cubin, "rb") as file:
            return result.stdout, sass_counts.kernels(file.read())


def compiled(nvcc, root, sources):
    """{source: what ptxas said}, {source: {(architecture, kernel): instructions}}"""
    units = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda unit: compile_one(nvcc, root, *unit), units))
    logs, counts = dict.fromkeys(sources, ""), {source: {} for source in sources}
    for (source, architecture), (log, kernels) in zip(units, made):
        logs[source] += log
        counts[source].update({(architecture, name): found for name, found in kernels.items()})
    return logs, counts


def kept(objects):
    """The same of the build's objects; CMake names each after its source in variants/."""
    logs, counts = {}, {}
    for path in objects:
        source = "variants/" + re.search(r"\.dir/(?:\./)?(.+)\.o$", path)[1]
        try:
            with open(path + ".ptxas", encoding="utf-8") as file:
                logs[source] = file.read()
        except FileNotFoundError:
            sys.exit(f"spill gate: {path}.ptxas is not there: build again, without the object")
        counts[source] = sass_counts.of_file(path)
    return logs, counts


def demangle(names):
    result = subprocess.run(["c++filt"], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    plain = [name.replace("attn::", "").replace("(anonymous namespace)::", "") for name in result.stdout.splitlines()]
    return [re.sub(r"^void (.*?>)\(.*\)$", r"\1", name) for name in plain]


def read_log(log):
    """{(architecture, mangled kernel): (registers, spill bytes, stack bytes)}"""
    found, kernel, stack, spill = {}, None, None, None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            kernel, stack, spill = (match[2], match[1]), None, None
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spill = int(match[1]), int(match[2]) + int(match[3])
        elif kernel and stack is not None and (match := re.search(r"Used (\d+) registers", line)):
            found[kernel] = (int(match[1]), spill, stack)
            kernel = None
    return found


def nvcc_version(nvcc):
    text = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return re.search(r"V([0-9.]+)", text)[1]


def instructions(counts, architecture, kernel):
    """Of a kernel with wgmma; objects know an architecture by its number alone. Those of a compressed object, as nvcc makes of
    the largest, stay empty, which is a complaint where the committed file has numbers."""
    found = counts.get((architecture, kernel)) or counts.get((int(re.sub(r"\D", "", architecture)), kernel))
    uses = found is not None and found["wgmma_shared"] + found["wgmma_registers"] > 0
    return found if uses else dict.fromkeys(sass_counts.FIELDS, "")


def rows_of(logs, counts, nvcc):
    rows, version = [], nvcc_version(nvcc)
    for source, log in logs.items():
        found = read_log(log)
        if not found:
            sys.exit(f"spill gate: ptxas reported no kernel of {source}")
        names = demangle([mangled for _, mangled in found])
        rows += [dict(zip(FIELDS, [version, source, architecture, name, *numbers]))
                 | instructions(counts[source], architecture, mangled)
                 for (architecture, mangled), name, numbers in zip(found, names, found.values())]
    return sorted(rows, key=key)


def key(row):
    return row["source"], row["architecture"], row["kernel"]


def judge(rows, baseline):
    """What is wrong, in lines."""
    expected = {key(row): row for row in baseline}
    problems = []
    for row in rows:
        name = "{architecture} {kernel}".format(**row)
        for field in ("spill_bytes", "stack_bytes"):
            if row[field] > 0:
                problems.append(f"{name}: {field} {row[field]}")
        if key(row) not in expected:
            if row["architecture"] in ARCHITECTURES:
                problems.append(f"{name}: not in the baseline")
        elif row["nvcc"] == expected[key(row)]["nvcc"]:
            before = expected[key(row)]
            if row["registers"] > int(before["registers"]):
                problems.append(f"{name}: registers {row['registers']}, baseline {before['registers']}")
            problems += [f"{name}: {field} {row[field] or 0}, baseline {before[field] or 0}" for field in sass_counts.FIELDS
                         if str(row[field]) != before[field]]
    for gone in sorted(set(expected) - {key(row) for row in rows}):
        problems.append(" ".join(gone) + ": in the baseline, no longer compiled")
    return problems


def losses(logs):
    """What ptxas complains of, such as instructions of tensor cores that it puts in line (C7510 to C7520), or a change of
    registers that it leaves out (C7504, C7508)."""
    return [f"{source}: {line}" for source, log in logs.items() for line in log.splitlines()
            if "Performance Loss" in line or re.search(r"\bC75\d\d\b", line)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nvcc")
    parser.add_argument("root")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--architectures", default="80,90a", help="those of the build, as CMake writes them")
    return parser.parse_args()


def main():
    given = arguments()
    objects = all(name.endswith(".o") for name in given.files)
    logs, counts = kept(given.files) if objects else compiled(given.nvcc, given.root, given.files)
    rows = rows_of(logs, counts, given.nvcc)
    path = os.path.join(given.root, "tests", "cuda_resources.csv")
    with open(path, newline="") as file:
        committed = list(csv.DictReader(file))
    if given.write:
        new = {(row["source"], row["architecture"]) for row in rows}
        rows += [row for row in committed if (row["source"], row["architecture"]) not in new]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(rows, key=key))
        return
    built = {"sm_" + name.removesuffix("-real") for name in given.architectures.split(",")} | {row["architecture"] for row in rows}
    baseline = [row for row in committed if row["source"] in logs and row["architecture"] in built]
    problems = judge(rows, baseline) + losses(logs)
    for line in problems:
        print(line)
    versions = {row["nvcc"] for row in baseline}
    print(f"{len(rows)} kernels of nvcc {rows[0]['nvcc']} for {', '.join(sorted({row['architecture'] for row in rows}))}, "
          f"baseline {', '.join(sorted(versions)) or 'empty'}: {len(problems)} complaints")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
