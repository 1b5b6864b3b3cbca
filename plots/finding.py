"""What a check of a campaign's validity found, and the words that all checks share."""

from dataclasses import dataclass, field

import pandas as pd

SEEN, CLEAR, UNKNOWN = "seen", "not seen", "cannot be judged"


@dataclass
class Finding:
    state: str
    text: str
    rows: list = field(default_factory=list)  # (variant, problem or setting, what was seen)


@dataclass
class Data:
    results: pd.DataFrame
    samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    fits: pd.DataFrame = field(default_factory=pd.DataFrame)
    environment: dict = field(default_factory=dict)

    @property
    def ok(self):
        return self.results[self.results.status == "ok"] if "status" in self.results else self.results


def percent(value):
    return f"{100 * value:.2g} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"


def counted(count, one, many=None):
    return f"{count} {one if count == 1 else many or one + 's'}"


def lacks(frame, *names):
    """The first column that is missing or empty, or an empty text."""
    return next((name for name in names if name not in frame or frame[name].isna().all()), "")


def unknown(name, file="results.csv"):
    return Finding(UNKNOWN, f"Column {name} of {file} is missing or empty.")


def found(rows, values, text, show=percent):
    """Seen where a row is affected."""
    listed = [(row.variant, getattr(row, "problem", None) or row.setting, show(value))
              for row, value in zip(rows.itertuples(), values)]
    return Finding(SEEN if listed else CLEAR, text, listed)
