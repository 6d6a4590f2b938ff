"""Columns as numbers: what each column is taken for, and scikit-learn's transformer for the lot.

All is decided once, on the whole table: no split of it and no fold of a cross-validation has other columns.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from upweight.errors import InputError
from upweight.tabular import cells, dates, texts
from upweight.tabular.choice import Choice
from upweight.tabular.counters import doubt, numbering

MOST_LEVELS = 40
"""Levels of a categorical column with a column of their own; the rarer ones share one."""
MOST_RARE = 0.1
"""Share of rows whose level would be a rare one, beyond which the column is read as text."""
FEWEST_PER_LEVEL = 5
FEW_LEVELS = 20
"""Up to so many levels, a column is categorical however few its rows."""
ABSENT = "(missing)"
RARE = "(rare)"
INDICATOR = "missingindicator_"  # scikit-learn's prefix
DATE, WORDS = "date ", "text "
"""How parts of the encoder begin that are of one column."""
ROUNDING = 8 * np.finfo(float).eps
"""Spread of a column, as a share of its size, that is rounding."""
LEAST_SPREAD = 1e-150
"""Spreads below have no square in double precision."""


@dataclass(frozen=True)
class Columns:
    """What each column is taken for.

    Attributes
    ----------
    numeric
        Standardised.
    levels
        Of each categorical column, those with an input of their own; `RARE` stands for the others.
    missing
        The numeric columns with missing values, each with an input that says where.
    dates
        Each with inputs for year, month, day, weekday and the time, down to the day or the hour.
    texts
        Each with inputs made of its letters.
    dropped
        Those left out, with the reason.
    doubts
        What speaks against some of those kept.
    """

    numeric: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    @property
    def categorical(self) -> tuple[str, ...]:
        """The columns of `levels`."""
        return tuple(self.levels)

    @property
    def worded(self) -> tuple[str, ...]:
        """Those that a file holds as text."""
        return (*self.categorical, *self.dates, *self.texts)

    @property
    def kept(self) -> tuple[str, ...]:
        """All that something is predicted from."""
        return (*self.numeric, *self.worded)

    @property
    def notes(self) -> tuple[str, ...]:
        """The dropped columns in words, and those that might be."""
        left_out = [f"column {name!r} was left out: {reason}" for name, reason in self.dropped.items()]
        return (*left_out, *(f"column {name!r} was kept, though {doubt}" for name, doubt in self.doubts.items()))

    def described(self) -> dict[str, dict[str, Any]]:
        """What every column was taken for: ``taken_for``, its number of levels or the reason it was dropped, doubts."""
        numbers = {
            name: {"taken_for": "numeric", "missing_marked": name in self.missing} for name in self.numeric
        }  # fmt: skip
        levels = {name: {"taken_for": "categorical", "levels": len(found)} for name, found in self.levels.items()}
        others = {name: {"taken_for": "date"} for name in self.dates} | {
            name: {"taken_for": "text"} for name in self.texts
        }
        dropped = {name: {"taken_for": "dropped", "reason": reason} for name, reason in self.dropped.items()}
        found = numbers | levels | others | dropped
        return {
            name: facts | ({"note": self.doubts[name]} if name in self.doubts else {}) for name, facts in found.items()
        }


def sorted_columns(features: pd.DataFrame, choice: Choice | None = None, whole: pd.DataFrame | None = None) -> Columns:
    """Sort the columns into numeric, categorical and dropped (constant, free text, identifiers, row counters).

    Parameters
    ----------
    choice
        Columns that were asked for or not wanted; those asked for are kept whatever they hold.
    whole
        The table with the rows that ``features`` lacks: a counter counts those too.

    Raises
    ------
    InputError
        If none is left, or the choice names a column that isn't there.
    """
    asked = Choice() if choice is None else choice
    asked.check(features.columns)
    reasons, levels, words = {}, {}, []
    for name in features.columns:
        column = _infinite_as_missing(features[name])
        reasons[name] = asked.reason(name)
        if reasons[name]:
            continue
        if not _is_number(column) and not dates.is_date(column):
            levels[name] = _common_levels(column)
            if _is_worded(column, levels[name]):
                words.append(name)
                continue
        if name not in asked.only:
            reasons[name] = _uninformative(column, levels.get(name)) or _counter(name, column, whole)
    kept = [name for name, reason in reasons.items() if not reason]
    if not kept:
        told = "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items()) or "there is none but the target"
        raise InputError(f"no column is left to predict from ({told})")
    dated = tuple(name for name in kept if dates.is_date(features[name]))
    levels = {name: found for name, found in levels.items() if name not in words}
    numeric = tuple(name for name in kept if name not in levels and name not in words and name not in dated)
    doubts = {
        name: _doubt(features[name], name in levels)
        for name in kept
        if name in levels or (name in numeric and name not in asked.only)
    }
    return Columns(
        numeric,
        {name: levels[name] for name in kept if name in levels},
        tuple(name for name in numeric if _infinite_as_missing(features[name]).isna().any()),
        {name: reason for name, reason in reasons.items() if reason},
        {name: f"{doubt}; {_way_out(name, name in levels)}" for name, doubt in doubts.items() if doubt},
        {name: dates.resolution(features[name]) for name in dated},
        tuple(words),
    )


def _is_worded(column: pd.Series, levels: tuple[str, ...]) -> bool:
    """Whether a column is read as text, rather than level by level."""
    if not texts.is_available() or types.infer_dtype(column, skipna=True) != "string":
        return False
    present = column.dropna()
    distinct = present.nunique()
    if distinct <= MOST_LEVELS or cells.odd_cells(column) is not None:
        return False
    if _is_identifying(distinct, len(present)):
        return texts.is_text(column)
    common = set(levels)
    return float((~present.isin(common)).mean()) > MOST_RARE


def _is_identifying(distinct: int, rows: int) -> bool:
    return distinct == rows or (distinct > FEW_LEVELS and 2 * distinct > rows)


def _doubt(column: pd.Series, is_text: bool) -> str:
    return cells.doubt(column) if is_text else doubt(_infinite_as_missing(column))


def _way_out(name: str, is_text: bool) -> str:
    if is_text:
        return f"or leave it out with --drop {shlex.quote(name)}"
    return f"if it numbers rows, groups or the time, leave it out with --drop {shlex.quote(name)}"


def _is_number(column: pd.Series) -> bool:
    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column) and not types.is_complex_dtype(column)


def _infinite_as_missing(column: pd.Series) -> pd.Series:
    return column.astype(float).replace([np.inf, -np.inf], np.nan) if _is_number(column) else column


def _uninformative(column: pd.Series, levels: tuple[str, ...] | None) -> str:
    """Why a column says nothing about the class; "" where it may."""
    present = column.dropna()
    distinct = present.nunique()
    if present.empty:
        return "it has no values"
    if distinct == 1 and len(present) == len(column):
        value = present.iloc[0]
        return f"it holds one value only ({repr(value) if isinstance(value, str) else level_name(value)})"
    if levels is None and not dates.is_date(column):
        # A gap says something too: one value with gaps beside it stays, for its indicator.
        return _flat(present) if distinct > 1 else ""
    if dates.is_date(column):
        return ""
    if _is_identifying(distinct, len(present)):
        odd = cells.odd_cells(column)
        but = "" if odd is None else f"; if it measures something, mend {odd.told}"
        return f"text or an identifier ({distinct:,} distinct values in {len(present):,} rows){but}"
    return f"none of its {distinct:,} values stands in {FEWEST_PER_LEVEL} rows" if levels == (RARE,) else ""


def _flat(present: pd.Series) -> str:
    """Why a column that hardly varies is none to reckon with; "" where it is."""
    values = present.to_numpy(dtype=float)
    spread = float(np.ptp(values))
    if spread <= ROUNDING * float(np.abs(values).max()):
        return "its values differ by rounding only"
    if spread <= LEAST_SPREAD:
        return f"its values differ by {spread:.2g} at most, too little to be squared; give it in a smaller unit"
    return ""


def _counter(name: str, column: pd.Series, whole: pd.DataFrame | None) -> str:
    if dates.is_date(column):
        return numbering(dates.seconds(column))
    tables = [column] if whole is None else [column, _infinite_as_missing(whole[name])]
    return next(filter(None, (numbering(each) for each in tables if _is_number(each))), "")


def _common_levels(column: pd.Series) -> tuple[str, ...]:
    """Levels of five rows and more, the `MOST_LEVELS` most frequent; `RARE` at the end if any other exists."""
    found = Counter(level_names(column))
    common = sorted(
        (level for level, count in found.items() if count >= FEWEST_PER_LEVEL and level != RARE),
        key=lambda level: (-found[level], level),
    )
    if len(common) == len(found) <= MOST_LEVELS:
        return tuple(sorted(common))
    return (*sorted(common[: MOST_LEVELS - 1]), RARE)


def level_names(column: pd.Series) -> list[str]:
    """Every row's value as text, `ABSENT` where there is none."""
    return _each(column, lambda level: level)


def _each(column: pd.Series, change: Callable[[str], str]) -> list[str]:
    """The same, changed; each distinct value is looked at once."""
    codes, values = pd.factorize(column)
    found = [change(level_name(value)) for value in values]
    absent = change(ABSENT)
    return [absent if code < 0 else found[code] for code in codes.tolist()]


def level_name(value: Any) -> str:
    """A value as text; whole numbers without the ``.0`` that a missing value elsewhere in the column adds."""
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_whole else str(value)


def encoder(columns: Columns) -> ColumnTransformer:
    """Numbers standardised, with missing ones at the median and an input saying so; categories one-hot.

    Rare levels share one input; levels never seen count as rare. Dates and text as skrub reads them. Give it what
    `prepared` returns.
    """
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    gaps = make_pipeline(MissingIndicator(features="all"), StandardScaler())
    levels = OneHotEncoder(
        categories=[list(found) for found in columns.levels.values()],
        handle_unknown="ignore",  # zeros everywhere, where the table has no rare levels
        sparse_output=False,
        feature_name_combiner=lambda name, level: f"{name}={level}",
    )
    parts: list[tuple[str, Any, Any]] = [
        ("numeric", numbers, list(columns.numeric)),
        ("missing", gaps, list(columns.missing)),
        ("categorical", levels, list(columns.categorical)),
    ]
    parts += [(f"{DATE}{name}", dates.encoder(resolution), name) for name, resolution in columns.dates.items()]
    parts += [(f"{WORDS}{name}", texts.encoder(), name) for name in columns.texts]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0, verbose_feature_names_out=False)


def prepared(features: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The kept columns, infinite numbers as missing and categories as text, with missing as a level of its own.

    Raises
    ------
    InputError
        If a column of numbers holds something else.
    """
    frame = features[list(columns.kept)].copy()
    for name in columns.numeric:
        if not _is_number(features[name]):
            frame[name] = _numbers(features[name])
        frame[name] = _infinite_as_missing(frame[name])
    for name, known in columns.levels.items():
        common = set(known)
        other = RARE if RARE in common else None
        found = _each(frame[name], lambda level: level if level in common or other is None else other)  # noqa: B023
        frame[name] = pd.Series(found, index=frame.index, dtype=object)
    for name in columns.texts:
        frame[name] = pd.Series(level_names(frame[name].fillna("")), index=frame.index, dtype=object)
    return frame


def _numbers(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = column[numbers.isna() & column.notna()]
    if len(wrong):
        raise InputError(
            f"column {column.name!r}: is numeric in the table trained on; row {wrong.index[0]} holds "
            f"{str(wrong.iloc[0])[:40]!r}; mend the cell, or empty it"
        )
    return numbers


def source_columns(transformer: ColumnTransformer, columns: Columns) -> list[str]:
    """The table's column behind each of a fitted encoder's outputs."""
    made = {
        "numeric": list(columns.numeric),
        "missing": list(columns.missing),
        "categorical": [name for name, levels in columns.levels.items() for _ in levels],
    }
    found: list[str] = []
    for part, places in transformer.output_indices_.items():
        one = part.removeprefix(DATE if part.startswith(DATE) else WORDS)
        found += made[part] if part in made else [one] * (places.stop - places.start)
    return found


def input_names(transformer: ColumnTransformer, columns: Columns) -> list[str]:
    """Names of a fitted encoder's outputs, no two alike."""
    found: list[str] = []
    for part, step, _ in transformer.transformers_:
        if step in ("drop", "passthrough"):
            continue
        names = [str(name) for name in step.get_feature_names_out()]
        one = part.removeprefix(DATE if part.startswith(DATE) else WORDS)
        if part.startswith((DATE, WORDS)) and part not in ("numeric", "missing", "categorical"):
            names = [f"{one}: {name.replace(f'{one}_', '', 1).replace('_', ' ')}" for name in names]
        found += names
    return found
