"""The README's manual section, made from --help: `manual.py --write` renews it, `manual.py --check` tells whether it is current."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

WIDTH = 160
BEGIN, END = "<!-- manual:begin -->", "<!-- manual:end -->"
SOURCE = pathlib.Path(__file__).resolve().parent.parent
README = SOURCE / "README.md"


def help_text(program, *command):
    done = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commands(program):
    listing = help_text(program).split("Subcommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\w+)", listing, re.MULTILINE)


def entries(help_of_command):
    """Description, options and footer, one text each, without headings, blank lines and --help, which every command has."""
    left_out = re.compile(r"\s*$|Usage:|Options:|Positionals:|  -h,--help")
    found = []
    for line in help_of_command.splitlines():
        if left_out.match(line):
            continue
        text = re.sub(r"\s+", " ", line.strip())
        if line.startswith(" " * 20):  # the description of a long option
            found[-1] += " " + text
        else:
            found.append(text)
    return found


def condensed(help_of_command):
    """The entries, several a line as long as it is no longer than WIDTH."""
    description, *others = entries(help_of_command)
    lines = [description]
    for entry in others:
        if len(lines) > 1 and len(lines[-1]) + len(entry) < WIDTH:
            lines[-1] += "  " + entry
        else:
            lines.append("  " + entry)
    return "\n".join(lines)


def manual(program):
    """Markdown: a line per command, its options behind."""
    parts = [f"attnbench {command}: {condensed(help_text(program, command))}" for command in commands(program)]
    return "```text\n" + "\n".join(parts) + "\n```"


def renewed(readme, text):
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        sys.exit(f"{README.name} must have the lines {BEGIN} and {END} once each")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=os.environ.get("ATTN_PROGRAM", SOURCE / "build" / "attnbench"))
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="renew the section")
    mode.add_argument("--check", action="store_true", help="exit code 1 where the section is not current")
    arguments = parser.parse_args()
    readme = README.read_text()
    current = renewed(readme, manual(arguments.program))
    if arguments.write:
        README.write_text(current)
    elif current != readme:
        sys.exit("README.md does not hold the present --help: run tests/manual.py --write")


if __name__ == "__main__":
    main()
