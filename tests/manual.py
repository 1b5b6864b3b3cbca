"""The manual, made from --help: `manual.py --write` renews it, `manual.py --check` tells whether it is current."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

BEGIN, END = "<!-- manual:begin -->", "<!-- manual:end -->"
SOURCE = pathlib.Path(__file__).resolve().parent.parent
MANUAL = SOURCE / "harness" / "MANUAL.md"


def help_text(program, *command):
    done = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commands(program):
    listing = help_text(program).split("Subcommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\w+)", listing, re.MULTILINE)


def condensed(help_of_command):
    """Description and options without headings, blank lines and --help, which every command has."""
    left_out = re.compile(r"\s*$|Usage:|Options:|Positionals:|  -h,--help")
    lines = "\n".join(line for line in help_of_command.splitlines() if not left_out.match(line))
    return re.sub(r"\n {10,}", "  ", lines)  # an option too long for its column has its text on the next line


def without_repeated(text, known):
    """Text whose lines that `known` has too, where they are many, are one line."""
    lines = text.splitlines()
    repeated = [line for line in lines if line in known]
    if len(repeated) < 10:
        return text
    kept = [line for line in lines if line not in known]
    return "\n".join([kept[0], "  The options of sweep that say what is measured, and:", *kept[1:]])


def manual(program):
    """Markdown: a line per command and option."""
    texts = {command: condensed(help_text(program, command)) for command in commands(program)}
    sweep = set(texts["sweep"].splitlines())
    parts = [f"attnbench {command}: {text if command == 'sweep' else without_repeated(text, sweep)}"
             for command, text in texts.items()]
    return "```text\n" + "\n".join(parts) + "\n```"


def renewed(old, text):
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        sys.exit(f"{MANUAL.name} must have the lines {BEGIN} and {END} once each")
    before, rest = old.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=os.environ.get("ATTN_PROGRAM", SOURCE / "build" / "attnbench"))
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="renew it")
    mode.add_argument("--check", action="store_true", help="exit code 1 where it is not current")
    arguments = parser.parse_args()
    old = MANUAL.read_text()
    current = renewed(old, manual(arguments.program))
    if arguments.write:
        MANUAL.write_text(current)
    elif current != old:
        sys.exit(f"{MANUAL.name} does not hold the present --help: run tests/manual.py --write")


if __name__ == "__main__":
    main()
