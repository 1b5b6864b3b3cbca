"""A day with a GPU in one command: attnbench gpu-day OUT [--minutes M] [--dry-run].

First every variant against the oracle, then compute-sanitizer on small problems, then the campaign of the preset gpu-day,
its most important points first, then what is left of the full correctness matrix. It ends by the clock and loses no row: the
same command on the same OUT goes on where it stopped, also on another day. OUT holds few small files, so that it can be
carried: summary.txt, log.txt, correctness.csv, and day.tar.gz with the campaign's folder, for `attnbench report` at home.

Python's standard library is enough.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import checks
import day_summary

RESERVE_S = 25  # to stop the campaign, to sum up and to pack
HERE = Path(__file__).resolve().parent
PRESETS = ["gpu-day", str(HERE / "blocks.toml"), str(HERE / "graphs.toml")]
LATER_S = 40  # that the campaigns before leave to each one behind them
MOST_BYTES = 10 << 20
# Of the estimate alone: host work a point (inputs, oracle) and a variant (checks, timing), as on 16 cores beside an H200;
# FlexAttention, which compiles for every point, takes 15 s.
POINT_S, VARIANT_S = 1.0, 0.8


class Day:
    def __init__(self, options):
        self.options = options
        self.out = Path(options.out)
        self.work = self.out.with_name(self.out.name + ".work")
        self.deadline = options.started + 60 * options.minutes - RESERVE_S
        self.unpack()
        self.log_file = open(self.work / "log.txt", "a", encoding="utf-8")
        self.state = self.read_state()

    def left_s(self):
        return self.deadline - time.time()

    def say(self, text):
        line = f"[{time.time() - self.options.started:4.0f} s] {text}"
        print(line, flush=True)
        print(line, file=self.log_file, flush=True)

    def unpack(self):
        """An earlier run's folders, where only OUT was kept."""
        if not self.work.exists() and (self.out / "day.tar.gz").is_file():
            with tarfile.open(self.out / "day.tar.gz") as packed:
                packed.extractall(self.work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)

    def read_state(self):
        """What earlier runs of this very program have checked."""
        digest = hashlib.sha256(Path(self.options.program).read_bytes()).hexdigest()
        path = self.work / "state.json"
        state = json.loads(path.read_text()) if path.is_file() else {}
        return state if state.get("program") == digest else {"program": digest, "checks": {}, "sanitizer": {}}

    def save_state(self):
        (self.work / "state.json").write_text(json.dumps(self.state, indent=1) + "\n")

    def pack(self):
        """Whole or not at all: a run that is killed meanwhile leaves the last one."""
        for path in (self.work / "log.txt", self.work / "correctness.csv"):
            if path.is_file():
                shutil.copy(path, self.out / path.name)
        unfinished = self.out / "day.tar.gz.part"
        with tarfile.open(unfinished, "w:gz") as packed:
            for path in sorted(self.work.iterdir()):
                packed.add(path, arcname=path.name)
        unfinished.replace(self.out / "day.tar.gz")
        size = sum(path.stat().st_size for path in self.out.iterdir())
        if size > MOST_BYTES:
            self.say(f"{self.out} holds {size >> 20} MiB, more than {MOST_BYTES >> 20}")

    def measure(self, preset, later):
        """One campaign, until it is complete or its time is up. Returns whether it is complete."""
        arguments = [self.options.program, "sweep", *campaign_of(self.options, preset), "--no-report", "--rates", "roof"]
        for folder in self.folders(preset):
            code = self.sweep(arguments + ["--out", str(folder.resolve())], folder_of(preset), later * LATER_S)
            if code != 2 or not (folder / "results.csv").is_file():
                return code == 0
            self.say(f"{folder.name} is of another machine or build: going on beside it")
        return False

    def folders(self, preset):
        name = Path(preset).stem
        return [self.work / name, *(self.work / f"{name}.{number}" for number in range(2, 10))]

    def sweep(self, arguments, folder, later_s):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder) as child:
            teller = threading.Thread(target=self.tell, args=(child.stdout,))
            teller.start()
            stopped = False
            while child.poll() is None:
                if not stopped and self.left_s() <= later_s:
                    child.send_signal(signal.SIGINT)
                    stopped = True
                if self.left_s() < later_s - RESERVE_S / 2:
                    child.kill()
                time.sleep(0.1)
            teller.join()
        if stopped:
            self.say("time is up: the same command goes on from here")
        return child.returncode

    def tell(self, stream):
        for line in stream:
            if line.strip():
                self.say(line.rstrip())


def campaign_of(options, preset):
    """Its options; another baseline, the first variant of the device, where this build lacks the preset's; a CPU has no graphs."""
    names = [row["name"] for row in listed(options.program) if row["device"] == options.device]
    named = [line.split("=", 1)[1].split("#")[0].strip().strip('"') for line in preset_text(preset).splitlines()
             if line.startswith("baseline")]
    lacking = named and names and named[0] not in names
    on_cpu = ["--launch", "stream"] if options.device == "cpu" else []
    return ["--preset", preset, *(["--baseline", names[0]] if lacking else []), *on_cpu]


def preset_text(preset):
    path = Path(preset) if preset.endswith(".toml") else HERE.parent / "presets" / f"{preset}.toml"
    return path.read_text(encoding="utf-8")


def folder_of(preset):
    """Where the files lie that a preset's masks name."""
    return Path(preset).resolve().parent if preset.endswith(".toml") else None


def listed(program):
    text = subprocess.run([program, "list", "--format", "csv"], capture_output=True, text=True, check=True).stdout
    return list(csv.DictReader(io.StringIO(text)))


def list_variants(program, device, pattern):
    """Those of the device that match: (all, reason why none can run or empty)."""
    variants = [row for row in listed(program) if row["device"] == device and re.search(pattern, row["name"])]
    if not variants:
        return [], f"this build has no such variant for {device}"
    reasons = [row["available"] for row in variants if row["available"] != "yes"]
    return variants, reasons[0] if len(reasons) == len(variants) else ""


def print_plan(options, presets):
    """Points in order, with an estimate of each and the sum."""
    total_s = 0.0
    for preset in presets:
        planned = subprocess.run([options.program, "plan", *campaign_of(options, preset)], capture_output=True, text=True, check=False,
                                 cwd=folder_of(preset))
        if planned.returncode:
            print(f"{preset}: {planned.stderr.strip()}", file=sys.stderr)
            continue
        for row in csv.DictReader(io.StringIO(planned.stdout)):
            count = len(row["variants"].split())
            total_s += POINT_S + VARIANT_S * count
            print(f"{total_s:6.0f} s  {count:2} variants  {row['problem']}")
    minutes = math.ceil(total_s / 60)
    print(f"estimated {minutes} min for all points after the build and the checks; --minutes {options.minutes:g} stops earlier, "
          "and the same command goes on")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="attnbench gpu-day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="folder of the few files to carry; an earlier run's is continued")
    parser.add_argument("--minutes", type=float, default=8, help="the build included (default 8)")
    parser.add_argument("--dry-run", action="store_true", help="print the points in order with an estimate, run nothing")
    parser.add_argument("--preset", action="append", help="another preset or .toml file than gpu-day; may be repeated")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu tries the command out without a GPU")
    parser.add_argument("--quick", action="store_true", help="leave the full correctness matrix out, which follows a complete campaign")
    parser.add_argument("--variants", default=".", metavar="REGEX", help="check only variants whose name has a match")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.program = str(Path(options.program).resolve())
    return options


def main():
    options = parse_arguments()
    presets = [str(Path(name).resolve()) if name.endswith(".toml") else name for name in options.preset or PRESETS]
    if options.minutes <= 0:
        print(f"attnbench: --minutes {options.minutes:g} must be greater than 0", file=sys.stderr)
        return 2
    if options.dry_run:
        print_plan(options, presets)
        return 0
    variants, missing = list_variants(options.program, options.device, options.variants)
    if missing:
        print(f"attnbench: gpu-day needs a GPU: {missing}; --dry-run prints the plan", file=sys.stderr)
        return 2
    return run(Day(options), presets, variants)


def run(day, presets, variants):
    wrong = checks.check_all(day, variants, "quick")
    wrong += checks.sanitize(day, variants)
    day.save_state()
    complete = True
    for later, preset in zip(reversed(range(len(presets))), presets):
        complete = day.left_s() > 0 and day.measure(preset, later) and complete
        day.pack()
    if complete and not day.options.quick:
        wrong += checks.check_all(day, variants, "full")
    day.save_state()
    text = day_summary.write(day, presets)
    print(text)
    day.pack()
    day.say(f"{'complete' if complete else 'incomplete: the same command goes on'}; {day.out}/summary.txt, {day.out}/day.tar.gz")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
