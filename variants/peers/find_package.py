"""Prints version and folder of a Python package and the interpreter, separated by semicolons: find_package.py NAME.

It is not imported."""

import importlib.metadata
import importlib.util
import pathlib
import sys

NAME = sys.argv[1]
found = importlib.util.find_spec(NAME)
if found is None or not found.origin:
    sys.exit(1)
print(importlib.metadata.version(NAME), pathlib.Path(found.origin).parent, sys.executable, sep=";", end="")
