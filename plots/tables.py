"""Tables of the report: CSV files as they stand, the columns that matter first, numbers in sensible units.

A cell keeps the text of the file beside what is shown, so that the page sorts, filters and exports exact values.
"""

import math
import re
from dataclasses import dataclass, field

import pandas as pd

from common import split_settings

TIMES = [(1e-6, "µs"), (1e-3, "ms"), (1, "s")]
BYTES = [(2**20, "MiB")]
RATES = [(1e6, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s")]
FLOPS = [(1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP")]
# The first pattern that is found in a column's name says what it holds. Columns of one kind share a unit.
KINDS = [(r"flops.*_per_s", RATES), (r"bytes_per_s", [(1e9, "GB/s")]), (r"^time_(hot_)?s|^latency_(graph_)?s|_s$", TIMES), (r"bytes", BYTES),
         (r"^flops", FLOPS), (r"_hz", [(1e9, "GHz")]),
         (r"fraction|^cpu_pressure$|^density$|^held_out_error", [(0.01, "%")])]
LABELS = {"seq_q": "n", "seq_kv": "keys", "heads_q": "h", "heads_kv": "h of keys", "d_head": "d", "d_value": "d of values",
          "time_s_median": "time", "time_hot_s_median": "hot", "latency_s_median": "latency",
          "latency_graph_s_median": "latency of a replay", "samples_throttled": "throttled",
          "time_s_sd_between": "sd between processes", "time_s_sd_within": "sd within a process",
          "ratio_to_baseline": "ratio to baseline", "flops_per_s": "rate", "roof_fraction": "share of roof",
          "memory_operands_bytes": "operands", "memory_workspace_peak_bytes": "workspace",
          "memory_process_peak_bytes": "process peak", "error_bound": "error / bound", "error_rel_l2": "relative L2 error",
          "analytic_exponent": "declared", "analytic_exponent_fitted_range": "declared, fitted range",
          "theory_crossover": "by theory", "ratio_at_to": "ratio at the end", "variant_a": "behind at the end",
          "variant_b": "ahead at the end", "declared_exponent": "declared"}
# Intervals whose columns are not NAME_ci_low and NAME_ci_high.
INTERVALS = {"time_s_median": ("time_s_ci_low", "time_s_ci_high"),
             "time_hot_s_median": ("time_hot_s_ci_low", "time_hot_s_ci_high"),
             "ratio_to_baseline": ("ratio_ci_low", "ratio_ci_high"),
             **{f"{name}_ratio_median": (f"{name}_ratio_quartile_1", f"{name}_ratio_quartile_3") for name in ("time", "memory")}}
PROSE = {"reason", "why_excluded", "knees", "memory_method", "repro", "setting", "problem"}
# Shown even where all rows agree.
KEPT = {"variant", "verdict", "time_s_median", "exponent", "setting", "problem", "reason", "repro"}
CHOICES = range(2, 25)  # a drop-down list pays for a column with so many distinct texts
MOST_LISTS = 5


@dataclass
class Cell:
    shown: str
    exact: str
    interval: str = ""


@dataclass
class Row:
    cells: list
    more: list  # exact texts of the columns that are not shown at first


@dataclass
class Column:
    name: str
    label: str
    numeric: bool
    short: bool
    choices: bool = False

    @property
    def style(self):
        classes = {"n": self.numeric, "t": self.name in PROSE, "w": self.name in ("setting", "problem"),
                   "r": self.name == "repro", "x": not self.short}
        return " ".join(name for name, holds in classes.items() if holds)


@dataclass
class Table:
    key: str
    title: str
    note: str = ""
    columns: list = field(default_factory=list)
    rows: list = field(default_factory=list)

    @property
    def shown(self):
        return [column for column in self.columns if column.short]


def read_text(path):
    """A CSV file with every field as it is written; empty where the file is missing or empty."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()


def as_number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def digits(value, significant=4):
    """Plain digits where they are few, else powers of ten."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 7:
        return f"{value:.{max(significant - 2, 1)}e}"
    return f"{value:.{max(0, significant - 1 - magnitude)}f}"


def kind_of(name):
    return next((index for index, (pattern, _) in enumerate(KINDS) if re.search(pattern, name)), None)


def units_of(frame, names):
    """{kind: (divisor, unit)}: the largest unit that leaves the median of the kind's first column at 1 or more."""
    units = {}
    for name in names:
        kind = kind_of(name)
        values = frame[name].map(as_number).abs()
        values = values[values > 0]
        if kind is None or kind in units or values.empty:
            continue
        ladder = KINDS[kind][1]
        units[kind] = next((step for step in reversed(ladder) if step[0] <= values.median()), ladder[0])
    return units


def shown_number(name, text, unit):
    value = as_number(text)
    if "exponent" in name:
        return f"{round(value, 2) + 0.0:.2f}"
    if unit is None:
        return text if re.fullmatch(r"-?\d+", text) else digits(value, 3 if re.search("ratio|error", name) else 4)
    return f"{value / unit[0]:.1f}" if unit[1] == "%" else digits(value / unit[0])


def interval_names(frame, name):
    """Columns of the ends of a column's interval; none where the file lacks them."""
    names = INTERVALS.get(name, (f"{name}_ci_low", f"{name}_ci_high"))
    return names if all(bound in frame for bound in names) else ()


def cells_of(frame, column, units):
    name, unit = column.name, units.get(kind_of(column.name)) if column.numeric else None
    bounds = interval_names(frame, name) if column.numeric else ()
    cells = []
    for index, text in enumerate(frame[name]):
        if not column.numeric or text == "":
            cells.append(Cell(text, text))
            continue
        ends = [frame[bound].iloc[index] for bound in bounds]
        interval = ", ".join(shown_number(name, end, unit) for end in ends) if ends and all(ends) else ""
        cells.append(Cell(shown_number(name, text, unit), text, interval))
    return cells


def shorten(frame, name, cells):
    """Problems and settings in words, without what all rows share; returns that."""
    texts = [text for text in dict.fromkeys(frame[name]) if text]
    try:
        own, shared = split_settings(texts)
    except (ValueError, KeyError):  # no list of fields, or words this page does not know
        return ""
    if len(texts) == 1:
        own, shared = [shared], ""
    words = dict(zip(texts, own))
    for cell in cells:
        cell.shown = words.get(cell.exact) or cell.exact
    return shared


def column_of(frame, name, short, unit):
    """Columns that are not shown at first keep their name: their cells are as in the file."""
    texts = [text for text in frame[name] if text]
    numeric = bool(texts) and all(text.lower() == "nan" or not math.isnan(as_number(text)) for text in texts)
    label = LABELS.get(name, name.replace("_", " "))
    label = re.sub(r" s(?= |$)| bytes$", "", label) if unit and name not in LABELS else label
    return Column(name, name if not short else f"{label} ({unit[1]})" if unit else label, numeric, short)


def offer_choices(frame, columns):
    lists = 0
    for column in columns:
        plain = not column.numeric and column.short and column.name not in PROSE
        column.choices = plain and lists < MOST_LISTS and frame[column.name].nunique() in CHOICES
        lists += column.choices


def build(key, title, frame, short=None, note=""):
    """The table of a frame of texts, or None where it has no row. Without `short` all columns but the ends of intervals, which
    stand beside their value, are shown at first."""
    if frame.empty:
        return None
    ends = {end for name in frame.columns for end in interval_names(frame, name)}
    first = [name for name in short or frame.columns if name in frame and name not in ends and (frame[name] != "").any()]
    same = [name for name in first if short and len(frame) > 1 and name not in KEPT and frame[name].nunique() == 1]
    first = [name for name in first if name not in same]
    rest = [name for name in frame.columns if name not in first]
    units = units_of(frame, first)
    columns = [column_of(frame, name, name in first, units.get(kind_of(name))) for name in first + rest]
    offer_choices(frame, columns)
    table = Table(key, title, columns=columns)
    by_column = [cells_of(frame, column, units) for column in table.shown]
    shared = [f"{LABELS.get(name, name.replace('_', ' '))} {frame[name].iloc[0]}" for name in same]
    for column, cells in zip(columns, by_column):
        if column.name in ("setting", "problem"):
            shared.append(shorten(frame, column.name, cells))
    table.note = (note + (f" In all rows: {', '.join(filter(None, shared))}." if any(shared) else "")).strip()
    table.rows = [Row(cells, more) for cells, more in zip(zip(*by_column), frame[rest].values.tolist())]
    return table
