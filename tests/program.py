"""The program under test, for the Python tests. ATTN_PROGRAM, ATTN_SOURCE_DIR and ATTN_BUILD_DIR come from CTest."""

import os
import pathlib
import subprocess

PROGRAM = os.environ["ATTN_PROGRAM"]
SOURCE = pathlib.Path(os.environ["ATTN_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["ATTN_BUILD_DIR"])


def run(*arguments, timeout=300, **keywords):
    """Exit code and outputs, whatever they are."""
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=timeout, check=False, **keywords)


def attnbench(*arguments, **keywords):
    """Standard output of a run that must succeed."""
    done = run(*arguments, **keywords)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def usage_error(*arguments, **keywords):
    """The one line on standard error of a run that must be refused."""
    done = run(*arguments, **keywords)
    assert done.returncode == 2, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.stderr.startswith("attnbench: ") and done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), done.stderr
    assert done.stdout == ""
    return done.stderr
