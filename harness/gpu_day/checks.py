"""The correctness matrix, a process a variant and storage type, and compute-sanitizer on small problems.

A variant that breaks the driver's state, hangs or dies takes no other variant's verdict with it. Nothing here is timed, so
processes run side by side. What fails is said at once, with a command that runs it again, and the rest goes on.
"""

import csv
import io
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

TYPES = ("f32", "bf16", "f16")
LONGEST_S = {"quick": 90, "full": 400, "sanitizer": 120}
TOOLS = ("memcheck", "racecheck", "synccheck")
# Off the tile edges, every family of kernels once: both storage types, grouped heads, masks, positions, gradients.
PROBLEMS = ("hq=2,nq=97,d=64,dtype=bf16", "hq=2,nq=97,d=64,mask=causal",
            "b=2,hq=4,hk=2,nq=70,nk=133,d=128,dtype=bf16,mask=causal+padding:90/133,pass=bwd",
            "hq=2,nq=130,d=40,dtype=f16,mask=window:20:3,pos=alibi", "hq=4,hk=1,nq=1,nk=600,d=64,dtype=bf16",
            "hq=1,nq=65,d=256,dtype=bf16,pos=t5:8:32,pass=bwd",
            "hq=2,hk=1,nq=130,nk=300,d=128,dtype=bf16,mask=causal,pos=shaw-keys:9",
            "hq=2,nq=70,d=72,dtype=bf16,pos=rope:10000",
            "hq=2,nq=150,d=80,dtype=bf16,mask=document:40/70,pos=rope:10000,softcap=9,pass=bwd")
COLUMNS = ["variant", "type", "suite", "cases", "unsupported", "failures", "deterministic", "worst_error_over_bound", "verdict"]
FOUND = 86  # exit code of the sanitizer where it found something


def is_peer(name):
    return name.startswith("peers/")


def compiles(name):
    """Takes seconds for every new problem: the matrix has hundreds. What the campaign times of it is checked there."""
    return name.startswith("peers/flex")


def run(command, timeout_s):
    """(exit code or None after the time-out, standard output, standard error)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False)
        return done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        return None, "", ""


def side_by_side(day, jobs, work):
    """work(job) for all jobs; those that would begin after the deadline are left out."""
    with ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 2) // 2))) as pool:
        return [found for found in pool.map(lambda job: work(job) if day.left_s() > 0 else None, jobs) if found is not None]


def tell(day, known, kind, rows):
    """Keeps what was found, each under its key, and says at once what is not ok and how to run it again."""
    for key, row, command in rows:
        known[key] = row
        if row["verdict"] != "ok":
            day.say(f"{kind} {row['verdict']}: {command}")
            for line in row["failed"]:
                day.say(f"    {line}")
    day.save_state()


def check_one(day, name, dtype, suite):
    command = [day.options.program, "check", "--variants", f"^{name}$", "--dtype", dtype, "--format", "csv"]
    command += ["--quick"] if suite == "quick" else []
    timeout_s = min(LONGEST_S[suite], max(5.0, day.left_s()))
    code, out, errors = run(command, timeout_s)
    if code is None and timeout_s < LONGEST_S[suite]:
        return None  # cut off by the end of the day: the next run tells
    rows = list(csv.DictReader(io.StringIO(out)))
    row = {"variant": name, "type": dtype, "suite": suite, **(rows[0] if len(rows) == 1 else {})}
    if code is None:
        row["verdict"] = "timed out"
    elif code in (0, 1) and len(rows) == 1:
        row["verdict"] = "ok" if code == 0 else "FAILED"
    else:
        row["verdict"] = f"crashed with signal {-code}" if code < 0 else f"ended with {code}"
    row["failed"] = errors.strip().splitlines()[:20] if row["verdict"] != "ok" else []
    row["rerun"] = shlex.join(["attnbench", *command[1:]])
    return row


def check_all(day, variants, suite):
    """Variants of our own first. Returns how many of them have a verdict other than ok."""
    known = day.state["checks"]
    names = sorted((variant["name"] for variant in variants if variant["available"] == "yes" and not compiles(variant["name"])),
                   key=is_peer)
    jobs = [(name, dtype) for name in names for dtype in TYPES if f"{name} {dtype} {suite}" not in known]
    found = side_by_side(day, jobs, lambda job: check_one(day, *job, suite))
    tell(day, known, "CHECK", ((f"{row['variant']} {row['type']} {suite}", row,
                                f"{row['variant']} in {row['type']}: {row['rerun']}") for row in found))
    with open(day.work / "correctness.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(known.values())
    wrong = [row for row in known.values() if row["suite"] == suite and row["verdict"] != "ok" and not is_peer(row["variant"])]
    counted = [row for row in known.values() if row["suite"] == suite]
    day.say(f"{suite} matrix: {len(counted)} of {len(names) * len(TYPES)} runs, {sum(int(row.get('cases') or 0) for row in counted)} "
            f"cases, {len(wrong)} runs wrong")
    return len(wrong)


def find_sanitizer():
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")


def is_blind(tool, report):
    """racecheck follows a bulk copy to its barrier only where it has a tensor map (as FlashAttention-3's developers found too):
    it calls every read behind the others a race. Whether it reports nothing else."""
    races = [line for line in report.splitlines() if "Race reported between" in line]
    told = re.search(r"RACECHECK SUMMARY: (\d+) hazards? displayed \((\d+) errors?, 0 warnings\)", report)
    return (tool == "racecheck" and told is not None and int(told[2]) == len(races) > 0 and
            all("between Write access at attn::bulk_load(" in line for line in races))


def sanitize_one(day, tool, problem, own):
    command = [find_sanitizer(), "--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "1000", day.options.program, "check",
               "--variants", own, "--problem", problem, "--fill", "normal", "--threads", "1"]
    timeout_s = min(LONGEST_S["sanitizer"], max(5.0, day.left_s()))
    code, out, errors = run(command, timeout_s)
    if code is None and timeout_s < LONGEST_S["sanitizer"]:
        return None
    folder = day.work / "sanitizer"
    folder.mkdir(exist_ok=True)
    number = PROBLEMS.index(problem)
    (folder / f"{tool}-{number}.txt").write_text(out + errors, encoding="utf-8")
    fine = code == 0 or code == FOUND and is_blind(tool, out)
    verdict = "ok" if fine else "timed out" if code is None else "FAILED"
    shown = [line for line in out.splitlines() if line.startswith("=========")][:12]
    return {"tool": tool, "problem": problem, "verdict": verdict, "command": shlex.join([*command[:7], "attnbench", *command[8:]]),
            "failed": shown if verdict == "FAILED" else []}


def sanitize(day, variants):
    """Our own CUDA variants under each tool. Returns how many runs found something."""
    own = [variant["name"] for variant in variants if variant["available"] == "yes" and not is_peer(variant["name"])]
    if day.options.device != "cuda" or not find_sanitizer() or not own:
        day.say("no compute-sanitizer here: left out")
        return 0
    known = day.state["sanitizer"]
    pattern = f"^({'|'.join(own)})$"
    jobs = [(tool, problem) for tool in TOOLS for problem in PROBLEMS if f"{tool} {problem}" not in known]
    found = side_by_side(day, jobs, lambda job: sanitize_one(day, *job, pattern))
    tell(day, known, "SANITIZER", ((f"{row['tool']} {row['problem']}", row, row["command"]) for row in found))
    failed = sum(row["verdict"] == "FAILED" for row in known.values())
    day.say(f"sanitizer: {len(known)} of {len(TOOLS) * len(PROBLEMS)} runs, {failed} found something")
    return failed
