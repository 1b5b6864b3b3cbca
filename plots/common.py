"""Reading a campaign, style, colours and saving: what every figure script shares.

A script holds TITLE, CAPTION and draw(campaign), which returns [(file name, figure)], empty where the data are absent.
Figures are 3.4 in (one column) or 7 in (two columns) wide, 8 pt, with Okabe and Ito's colours; markers and line
styles tell the variants apart in greyscale too. The same CSV files give the same bytes.
"""

import json
import os
import sys
from pathlib import Path

import matplotlib

os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # embedded fonts carry a date too
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

COLUMN_IN, PAGE_IN = 3.4, 7.0
OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8200"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
LINES = ["-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1))]
GREY = "#777777"
FORMATS = ("pdf", "svg", "png")

AXES = ("n", "d", "h_fixed_width", "h_fixed_head")
X_COLUMN = {"n": "seq_q", "d": "d_head", "h_fixed_width": "heads_q", "h_fixed_head": "heads_q"}
X_LABEL = {"n": "sequence length n", "d": "head width d", "h_fixed_width": "heads h", "h_fixed_head": "heads h"}
# Fields of the problem's text that change along an axis; the analysis groups by the same rule.
MOVING = {"n": {"nq", "nk"}, "d": {"d", "dv", "dm"}, "h_fixed_width": {"hq", "hk", "d", "dv"},
          "h_fixed_head": {"hq", "hk", "dm"}}


def set_style():
    plt.rcParams.update({
        "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
        "legend.fontsize": 7, "font.family": "DejaVu Sans", "axes.linewidth": 0.6, "lines.linewidth": 1.1,
        "lines.markersize": 3.5, "grid.linewidth": 0.4, "grid.color": "#dddddd", "axes.grid": True,
        "axes.axisbelow": True, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.size": 0,
        "ytick.minor.size": 0, "svg.hashsalt": "attnbench", "svg.fonttype": "path", "pdf.fonttype": 42,
        "figure.dpi": 100, "savefig.dpi": 300, "hatch.linewidth": 0.5,
    })


def setting_of(row, axis):
    """What a row holds fixed on an axis, as in fits.csv; empty where the row is not on it."""
    if row.heads_kv == 0 or row.heads_q % row.heads_kv != 0:
        return ""
    if axis == "n" and row.seq_q != row.seq_kv or axis in ("d", "h_fixed_width") and row.d_head != row.d_value:
        return ""
    moving = set(MOVING[axis])
    if row.scope == "block" and row.d_model != row.heads_q * row.d_head:
        moving.discard("dm")
    fields = [field for field in row.problem.split(",") if field.split("=")[0] not in moving]
    if axis == "h_fixed_width":
        fields.append(f"hq*d={row.heads_q * row.d_head}")
    if axis.startswith("h_") and row.heads_kv != row.heads_q:
        fields.append(f"hq/hk={row.heads_q // row.heads_kv}")
    fields.append(f"threads={row.threads}")
    machine = getattr(row, "machine", None)  # only where a folder joins several
    if isinstance(machine, str):
        fields.append(f"machine={machine}")
    return ",".join(fields)


def read_table(path):
    """A CSV file, or an empty table where it is missing or empty."""
    try:
        return pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()


def read_json(path):
    """A JSON object, or an empty one where the file is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


class Campaign:
    def __init__(self, folder):
        self.folder = Path(folder)
        if not (self.folder / "results.csv").is_file():
            sys.exit(f"{folder}: no results.csv here; expected the folder of a campaign")
        self.results = read_table(self.folder / "results.csv")
        self.fits = read_table(self.folder / "fits.csv")
        self.crossovers = read_table(self.folder / "crossovers.csv")
        self.environment = read_json(self.folder / "environment.json")
        self.config = read_json(self.folder / "campaign.json")
        for axis in AXES:
            self.results["setting_" + axis] = [setting_of(row, axis) for row in self.results.itertuples()]
        self.variants = sorted(self.results["variant"].dropna().unique()) if len(self.results) else []
        self.ok = self.results[self.results["status"] == "ok"]

    def style(self, variant):
        """Colour, marker and line of a variant, the same in every figure of the campaign."""
        index = self.variants.index(variant)
        return {"color": OKABE_ITO[index % len(OKABE_ITO)], "marker": MARKERS[index % len(MARKERS)],
                "linestyle": LINES[index % len(LINES)]}

    def fit(self, variant, axis, quantity, setting):
        """The row of fits.csv, or None."""
        if self.fits.empty:
            return None
        f = self.fits
        found = f[(f.variant == variant) & (f.axis == axis) & (f.quantity == quantity) & (f.setting == setting)]
        return None if found.empty else found.iloc[0]


def fields_of(setting):
    """A setting as a dictionary."""
    return dict(field.split("=", 1) for field in setting.split(","))


WORDS = {"b": "batch {}", "hq": "h = {}", "d": "d = {}", "nq": "n = {}", "threads": "{} threads", "hq*d": "h·d = {}", "b*n": "b·n = {}",
         "dtype": "{}", "mask": "{}", "pos": "{}", "scope": "scope {}", "scale": "scale {}",
         "softcap": "softcap {}", "hq/hk": "h/g = {}", "dm": "model width {}", "machine": "{}"}
PASSES = {"fwd": "forward", "bwd": "backward"}


def describe(fields, names):
    """Fields in words; those that repeat another (hk = hq, dv = d, nk = nq) and plain ones are left out."""
    words = []
    for name in names:
        value = fields.get(name)
        twin = {"hk": "hq", "dv": "d", "nk": "nq"}.get(name)
        if value is None or (name, value) in (("pos", "none"), ("b", "1"), ("scope", "core")):
            continue
        if twin:
            if value != fields.get(twin):
                words.append({"hk": "g = {}", "dv": "dv = {}", "nk": "nk = {}"}[name].format(value))
        elif name == "pass":
            words.append(PASSES[value])
        elif name == "mask" and value == "none":
            words.append("no mask")
        elif name == "threads" and value == "1":
            words.append("1 thread")
        else:
            words.append(WORDS.get(name, name + " {}").format(value))
    return ", ".join(words)


def split_settings(settings):
    """(what differs, one text per setting; what all share, one text)."""
    parsed = [fields_of(setting) for setting in settings]
    names = list(dict.fromkeys(name for fields in parsed for name in fields))
    order = ["mask", "pos", "pass"]
    names = order + [name for name in names if name not in order]
    shared = [name for name in names if len({fields.get(name) for fields in parsed}) == 1]
    own = [describe(fields, [name for name in names if name not in shared]) for fields in parsed]
    return own, describe(parsed[0], shared) if parsed else ""


def save(figure, folder, name):
    """figures/NAME.pdf, .svg and .png without dates; returns the paths."""
    target = Path(folder) / "figures"
    target.mkdir(exist_ok=True)
    metadata = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    paths = []
    for kind in FORMATS:
        path = target / f"{name}.{kind}"
        figure.savefig(path, metadata=metadata[kind])
        paths.append(path)
    plt.close(figure)
    return paths


def main(draw):
    """A script's own command line: DIR."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} DIR (the folder of a campaign)")
    set_style()
    campaign = Campaign(sys.argv[1])
    figures = draw(campaign)
    if not figures:
        print("nothing to draw: the campaign does not hold these data")
    for name, figure in figures:
        for path in save(figure, campaign.folder, name):
            print(path)
