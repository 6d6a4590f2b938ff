"""Conditions on a table's columns, such as ``age < 20 and sex == 'f'``: read as a small language, never run as code.

Comparisons (also chained), ``in`` and ``not in`` of lists, ``and``, ``or``, ``not`` (and ``&``, ``|``, ``~`` between
parentheses), names of columns (in backticks where they hold other letters), text, numbers, True and False. Numbers are
compared with columns of numbers, text with columns of text (or dates), and what is mixed up is refused.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.choice import near_names
from upweight.tabular.comparing import Rows, UnlikeError, compared, within
from upweight.tabular.words import meant, words

COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
LONGEST = 10_000
DEEPEST = 50
"""Characters and nested parts of a condition at most."""
NO_VALUE = "rows without a value in x are those of: not x == x"


@dataclass(frozen=True)
class Condition:
    """A condition that has been read; ``called`` is the column that each name in it means."""

    text: str
    tree: ast.expr
    called: Mapping[ast.Name, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in it, in their order."""
        return tuple(dict.fromkeys(self.called.values()))

    def holds(self, table: pd.DataFrame) -> Rows:
        """For which rows it is true, ``[rows]``; no comparison is true of a missing value.

        Raises
        ------
        InputError
            If it names no column of the table, or compares what can't be compared.
        """
        known = [str(name) for name in table.columns]
        for name in self.names:
            if name not in known and name.lower() in ("nan", "na", "none", "null"):
                raise InputError(f"--group: there is no column {name!r}; {NO_VALUE}")
            if name not in known:
                raise InputError(f"--group: there is no column {name!r}{near_names(name, known)}")
            if known.count(name) > 1:
                raise InputError(f"--group: {known.count(name)} columns are called {name!r}; give each its own name")
        return _truth(self.tree, _Reading(self, table))


def read(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    InputError
        If it holds anything but the above; the message names the part and the mend.
    """
    if len(text) > LONGEST:
        raise InputError(f"--group: {len(text):,} characters are more than {LONGEST:,}; give a shorter condition")
    found = words(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks on its own language
            tree = ast.parse(found.source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(
            f"--group: {_short(text)} can't be read ({told}{meant(text)}); write something like \"age < 20 and "
            "sex == 'f'\", with text in quotes and names of columns with other letters in backticks"
        ) from None
    _Check(text, found.quoted).check(tree, 0)
    # As it is written: Python's own names are other letters where several look alike (ﬁ is fi).
    called = {
        node: found.quoted.get(node.id) or ast.get_source_segment(found.source, node) or node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name)
    }
    in_order = dict(sorted(called.items(), key=lambda pair: (pair[0].lineno, pair[0].col_offset)))
    if not called:
        raise InputError(f'--group: {_short(text)} names no column; write something like "age < 20"')
    return Condition(text, tree, in_order)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 200 else f"{text[:100]!r} … ({len(text):,} characters)"


def _shown(node: ast.expr, quoted: Mapping[str, str]) -> str:
    """A part as it may have been written."""
    try:
        found = ast.unparse(node)
    except RecursionError:
        return "a part of it"
    for place, name in quoted.items():
        found = re.sub(rf"\b{place}\b", lambda _, name=name: f"`{name}`", found)  # type: ignore[misc]
    return repr(found) if len(found) <= 200 else "a part of it"


@dataclass(frozen=True)
class _Check:
    """Refuses what is no part of the language, before anything is looked up."""

    text: str
    quoted: Mapping[str, str]

    def refuse(self, what: str) -> InputError:
        return InputError(f"--group: {_short(self.text)}: {what}")

    def shown(self, node: ast.expr) -> str:
        return _shown(node, self.quoted)

    def check(self, node: ast.expr, depth: int) -> None:
        if depth > DEEPEST:
            raise InputError(f"--group: more than {DEEPEST} parts within each other; give a simpler condition")
        for part in self.parts(node, depth):
            self.check(part, depth + 1)

    def parts(self, node: ast.expr, depth: int) -> list[ast.expr]:
        match node:
            case ast.BoolOp(values=parts):
                return parts
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=part):
                return [part]
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr(), left=left, right=right):
                if any(isinstance(part, ast.Constant) for part in (left, right)):
                    raise self.refuse("& and | bind closer than comparisons; write and, or, or parentheses")
                return [left, right]
            case ast.Compare(left=left, ops=operations, comparators=others):
                for before, how, after in zip([left, *others], operations, others, strict=False):
                    self.compare(node, before, how, after)
                return [left, *others]
            case ast.List(elts=parts) | ast.Tuple(elts=parts) if depth > 0:
                if not all(_is_value(part) for part in parts):
                    raise self.refuse(f"a list holds text and numbers alone; got {self.shown(node)}")
                return []
            case ast.Tuple():
                raise self.refuse(f"{self.shown(node)} is a list; a number has a point, 1.5, and no comma")
            case ast.Name():
                return []
            case ast.Constant(value=None):
                raise self.refuse(f"None isn't understood; {NO_VALUE}")
            case _ if _is_value(node):
                return []
        raise self.refuse(
            f"{self.shown(node)} isn't understood; there are comparisons, and, or, not, in, names of columns, text and "
            "numbers, and nothing else"
        )

    def compare(self, node: ast.expr, before: ast.expr, how: ast.cmpop, after: ast.expr) -> None:
        """One of the comparisons of a chain."""
        lists = [isinstance(side, ast.List | ast.Tuple) for side in (before, after)]
        if isinstance(how, ast.In | ast.NotIn):
            if not lists[1]:
                raise self.refuse("in needs a list; write in ['a', 'b']")
            if not after.elts:  # type: ignore[attr-defined]
                raise self.refuse("the list is empty, and no row is in it; write what to look for")
            if not isinstance(before, ast.Name):
                raise self.refuse(f"{self.shown(before)} is compared with no column; write a column before in")
            return
        if type(how) not in COMPARISONS:
            raise self.refuse(f"{self.shown(node)} isn't understood; compare by == or !=; {NO_VALUE}")
        if any(lists):
            raise self.refuse(f"{self.shown(node)} compares with a list; write in ['a', 'b'] for one of several")


def _is_value(node: ast.expr) -> bool:
    """Whether it is text, a number, True or False."""
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
            return not isinstance(value, bool)
        case ast.Constant(value=bool() | int() | float() | str()):
            return True
    return False


@dataclass(frozen=True)
class _Reading:
    """A condition with the table that it is asked of."""

    condition: Condition
    table: pd.DataFrame

    def refuse(self, what: str) -> InputError:
        return InputError(f"--group: {_short(self.condition.text)}: {what}")

    def shown(self, node: ast.expr) -> str:
        called = {name.id: column for name, column in self.condition.called.items() if name.id != column}
        return _shown(node, called)

    def column(self, node: ast.Name) -> pd.Series:
        name = self.condition.called[node]
        return self.table.iloc[:, [str(each) for each in self.table.columns].index(name)]


def _truth(node: ast.expr, reading: _Reading) -> Rows:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return np.logical_and.reduce([_truth(value, reading) for value in values])
        case ast.BoolOp(values=values):
            return np.logical_or.reduce([_truth(value, reading) for value in values])
        case ast.BinOp(op=ast.BitAnd(), left=left, right=right):
            return _truth(left, reading) & _truth(right, reading)
        case ast.BinOp(left=left, right=right):
            return _truth(left, reading) | _truth(right, reading)
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            return ~_truth(operand, reading)
        case ast.Compare(left=left, ops=operations, comparators=others):
            sides = [left, *others]
            pairs = zip(sides, operations, others, strict=False)
            return np.logical_and.reduce([_compared(one, how, other, reading) for one, how, other in pairs])
        case ast.Name():
            column = reading.column(node)
            if not types.is_bool_dtype(column.dropna().infer_objects()):
                raise reading.refuse(f"{column.name!r} isn't true or false for each row; compare it with something")
            return np.asarray(column.fillna(False), dtype=bool)
    raise reading.refuse(f"{reading.shown(node)} isn't true or false for each row; compare it")


def _compared(one: ast.expr, how: ast.cmpop, other: ast.expr, reading: _Reading) -> Rows:
    left = _value(one, reading)
    try:
        if isinstance(how, ast.In | ast.NotIn):
            listed = [_value(part, reading) for part in other.elts]  # type: ignore[attr-defined]
            found = within(left, listed)
            return (found if isinstance(how, ast.In) else ~found) & left.notna().to_numpy()
        right = _value(other, reading)
        if not any(isinstance(side, pd.Series) for side in (left, right)):
            raise reading.refuse(f"{reading.shown(one)} is compared with no column")
        return compared(left, COMPARISONS[type(how)], right)
    except UnlikeError as error:
        raise reading.refuse(str(error)) from None


def _value(node: ast.expr, reading: _Reading) -> Any:
    match node:
        case ast.Name():
            return reading.column(node)
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=sign, operand=ast.Constant(value=int() | float() as value)) if _is_value(node):
            return -value if isinstance(sign, ast.USub) else value
    raise reading.refuse(f"{reading.shown(node)} is no column, text or number to compare with")
