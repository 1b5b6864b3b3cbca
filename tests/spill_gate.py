"""Compiles the fused CUDA kernels and reads what ptxas says of each: fails where one spills registers, keeps a stack
frame or exceeds the committed tests/cuda_resources.csv. No GPU is needed.

    spill_gate.py NVCC SOURCE_DIR SOURCE...            check
    spill_gate.py NVCC SOURCE_DIR --write SOURCE...    write the file anew: after a change that is meant

Register counts belong to a compiler: with another nvcc than the file's, only spills and the list of kernels are judged.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ARCHITECTURES = ["sm_80", "sm_90a"]
# The build's own flags; -lineinfo and warnings do not change code.
FLAGS = ["-std=c++20", "-O3", "-Xptxas", "-v", "--cubin"]
FIELDS = ["nvcc", "source", "architecture", "kernel", "registers", "spill_bytes", "stack_bytes"]


def compile_log(nvcc, root, source, architecture):
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, *FLAGS, "-arch=" + architecture, "-I", root, os.path.join(root, source), "-o",
                   os.path.join(folder, "kernels.cubin")]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit("spill gate: compilation failed: " + " ".join(command) + "\n" + result.stdout)
    return result.stdout


def demangle(names):
    result = subprocess.run(["c++filt"], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    plain = [name.replace("attn::", "").replace("(anonymous namespace)::", "") for name in result.stdout.splitlines()]
    return [re.sub(r"^void (.*?>)\(.*\)$", r"\1", name) for name in plain]


def read_log(log):
    """{mangled kernel: (registers, spill bytes, stack bytes)}"""
    found, kernel, stack, spill = {}, None, None, None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            kernel, stack, spill = match[1], None, None
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spill = int(match[1]), int(match[2]) + int(match[3])
        elif kernel and stack is not None and (match := re.search(r"Used (\d+) registers", line)):
            found[kernel] = (int(match[1]), spill, stack)
            kernel = None
    return found


def nvcc_version(nvcc):
    text = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return re.search(r"V([0-9.]+)", text)[1]


def measure(nvcc, root, sources):
    def rows_of(unit):
        source, architecture = unit
        found = read_log(compile_log(nvcc, root, source, architecture))
        if not found:
            sys.exit(f"spill gate: ptxas reported no kernel of {source} for {architecture}")
        return [dict(zip(FIELDS, [version, source, architecture, name, *numbers]))
                for name, numbers in zip(demangle(list(found)), found.values())]

    version = nvcc_version(nvcc)
    units = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        rows = [row for unit_rows in pool.map(rows_of, units) for row in unit_rows]
    return sorted(rows, key=key)


def key(row):
    return row["source"], row["architecture"], row["kernel"]


def judge(rows, baseline):
    """What is wrong, in lines."""
    expected = {key(row): row for row in baseline}
    problems = []
    for row in rows:
        name = "{architecture} {kernel}".format(**row)
        if row["spill_bytes"] > 0:
            problems.append(f"{name}: spills {row['spill_bytes']} bytes")
        if key(row) not in expected:
            problems.append(f"{name}: not in the baseline")
            continue
        if row["nvcc"] != expected[key(row)]["nvcc"]:
            continue
        for field in FIELDS[4:]:
            if row[field] > int(expected[key(row)][field]):
                problems.append(f"{name}: {field} {row[field]}, baseline {expected[key(row)][field]}")
    for gone in set(expected) - {key(row) for row in rows}:
        problems.append(" ".join(gone) + ": in the baseline, no longer compiled")
    return problems


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    if len(arguments) < 3:
        sys.exit("usage: spill_gate.py NVCC SOURCE_DIR [--write] SOURCE...")
    nvcc, root, sources = arguments[0], arguments[1], arguments[2:]
    path = os.path.join(root, "tests", "cuda_resources.csv")
    rows = measure(nvcc, root, sources)
    if "--write" in sys.argv:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return
    with open(path, newline="") as file:
        baseline = [row for row in csv.DictReader(file) if row["source"] in sources]
    problems = judge(rows, baseline)
    for line in problems:
        print(line)
    print(f"{len(rows)} kernels of nvcc {rows[0]['nvcc']}, baseline {baseline[0]['nvcc']}: {len(problems)} complaints")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
