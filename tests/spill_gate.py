"""Reads what ptxas says of each CUDA kernel: fails where one spills registers, keeps a stack frame or exceeds the committed
tests/cuda_resources.csv, and where the compiler itself sees a loss. No GPU is needed.

    spill_gate.py NVCC SOURCE_DIR OBJECT...            check what the build kept beside its objects (harness/keep_ptxas.sh)
    spill_gate.py NVCC SOURCE_DIR --compile SOURCE...  compile, and check that
    spill_gate.py NVCC SOURCE_DIR --write SOURCE...    compile, and write the file's rows of these sources anew: after a change
                                                       that is meant

Register counts belong to a compiler: with another nvcc than the file's, only spills and the list of kernels are judged.
"""

import argparse
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


def compiled(nvcc, root, sources):
    """{source: what ptxas said}"""
    units = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        logs = list(pool.map(lambda unit: compile_log(nvcc, root, *unit), units))
    return {source: "".join(log for unit, log in zip(units, logs) if unit[0] == source) for source in sources}


def kept(objects):
    """{source: what ptxas said}, of the build's objects; CMake names each after its source in variants/."""
    logs = {}
    for path in objects:
        try:
            with open(path + ".ptxas", encoding="utf-8") as file:
                logs["variants/" + re.search(r"\.dir/(?:\./)?(.+)\.o$", path)[1]] = file.read()
        except FileNotFoundError:
            sys.exit(f"spill gate: {path}.ptxas is not there: build again, without the object")
    return logs


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


def rows_of(logs, nvcc):
    rows, version = [], nvcc_version(nvcc)
    for source, log in logs.items():
        found = read_log(log)
        if not found:
            sys.exit(f"spill gate: ptxas reported no kernel of {source}")
        names = demangle([mangled for _, mangled in found])
        rows += [dict(zip(FIELDS, [version, source, architecture, name, *numbers]))
                 for (architecture, _), name, numbers in zip(found, names, found.values())]
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
        elif row["nvcc"] == expected[key(row)]["nvcc"] and row["registers"] > int(expected[key(row)]["registers"]):
            problems.append(f"{name}: registers {row['registers']}, baseline {expected[key(row)]['registers']}")
    for gone in sorted(set(expected) - {key(row) for row in rows}):
        problems.append(" ".join(gone) + ": in the baseline, no longer compiled")
    return problems


def losses(logs):
    """What ptxas complains of, such as instructions of tensor cores that it puts in line."""
    return [f"{source}: {line}" for source, log in logs.items() for line in log.splitlines() if "Performance Loss" in line]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nvcc")
    parser.add_argument("root")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--architectures", default="80,90a", help="those of the build, as CMake writes them")
    return parser.parse_args()


def main():
    given = arguments()
    logs = compiled(given.nvcc, given.root, given.files) if given.compile or given.write else kept(given.files)
    rows = rows_of(logs, given.nvcc)
    path = os.path.join(given.root, "tests", "cuda_resources.csv")
    with open(path, newline="") as file:
        committed = list(csv.DictReader(file))
    if given.write:
        rows += [row for row in committed if row["source"] not in logs]
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
