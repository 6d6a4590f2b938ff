"""Conditions on a table's columns, such as ``age < 20 and sex == 'f'``: read as a small language, never run as code.

Comparisons (also chained), ``in`` and ``not in`` of lists, ``and``, ``or``, ``not`` (and ``&``, ``|``, ``~`` between
parentheses), names of columns (in backticks where they hold other letters), text, numbers, True and False.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from upweight.messages import InputError
from upweight.tabular.choice import near_names

Rows = npt.NDArray[np.bool_]
PIECES = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`([^`]*)`|(?<![=!<>])(=)(?!=)|([^'"`=]+|.)""", re.DOTALL)
"""Text in quotes, a name in backticks, a lone ``=``, or anything else."""
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


@dataclass(frozen=True)
class Condition:
    """A condition that has been read; ``names`` are the columns in it, in their order."""

    text: str
    tree: ast.expr
    quoted: Mapping[str, str]
    names: tuple[str, ...]

    def holds(self, table: pd.DataFrame) -> Rows:
        """For which rows it is true, ``[rows]``; no comparison is true of a missing value.

        Raises
        ------
        InputError
            If it names no column of the table, or compares what can't be compared.
        """
        for name in self.names:
            if name not in table.columns:
                raise InputError(f"--group: there is no column {name!r}{near_names(name, table.columns)}")
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
    quoted: dict[str, str] = {}
    parts = []
    for string, name, equals, other in PIECES.findall(text):
        if equals:
            raise InputError(f"--group: {text!r} has a single =; write == to compare")
        if name:
            quoted[f"_column_{len(quoted)}_"] = name
            parts.append(f" _column_{len(quoted) - 1}_ ")
        else:
            parts.append(string or other)
    try:
        tree = ast.parse("".join(parts).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(
            f"--group: {text!r} can't be read ({told}); write something like \"age < 20 and sex == 'f'\", with text in "
            "quotes and names of columns with other letters in backticks"
        ) from None
    _check(tree, text, 0)
    found = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names = tuple(dict.fromkeys(quoted.get(name, name) for name in found))
    if not names:
        raise InputError(f'--group: {text!r} names no column; write something like "age < 20"')
    return Condition(text, tree, quoted, names)


def _check(node: ast.expr, text: str, depth: int) -> None:
    """Refuse what is no part of the language, before anything is looked up."""
    if depth > DEEPEST:
        raise InputError(f"--group: more than {DEEPEST} parts within each other; give a simpler condition")
    match node:
        case ast.BoolOp(values=parts):
            pass
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=part):
            parts = [part]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float())):
            parts = []
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr(), left=left, right=right):
            parts = [left, right]
            if any(isinstance(part, ast.Constant) for part in parts):
                raise InputError(
                    f"--group: {text!r}: & and | bind closer than comparisons; write and, or, or parentheses"
                )
        case ast.Compare(left=left, ops=operations, comparators=others):
            parts = [left, *others]
            for operation, other in zip(operations, others, strict=True):
                within = isinstance(operation, ast.In | ast.NotIn)
                if type(operation) not in COMPARISONS and not within:
                    raise InputError(f"--group: {text!r}: {_shown(node, text)} isn't understood; compare by == or !=")
                if within and not isinstance(other, ast.List | ast.Tuple):
                    raise InputError(f"--group: {text!r}: in needs a list; write in ['a', 'b']")
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            if not all(isinstance(part, ast.Constant | ast.UnaryOp) for part in parts):
                raise InputError(f"--group: {text!r}: a list holds text and numbers alone; got {_shown(node, text)}")
        case ast.Name():
            parts = []
        case ast.Constant(value=bool() | int() | float() | str()):
            parts = []
        case _:
            raise InputError(
                f"--group: {text!r}: {_shown(node, text)} isn't understood; there are comparisons, and, or, not, in, "
                "names of columns, text and numbers, and nothing else"
            )
    for part in parts:
        _check(part, text, depth + 1)


def _shown(node: ast.expr, text: str) -> str:
    return repr(ast.unparse(node)) if len(text) < 200 else "a part of it"


@dataclass(frozen=True)
class _Reading:
    """A condition with the table that it is asked of."""

    condition: Condition
    table: pd.DataFrame

    def refuse(self, what: str) -> InputError:
        return InputError(f"--group: {self.condition.text!r}: {what}")


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
            column = _value(node, reading)
            if not types.is_bool_dtype(column.dropna().infer_objects()):
                raise reading.refuse(f"{column.name!r} isn't true or false for each row; compare it with something")
            return column.fillna(False).to_numpy(dtype=bool)
    raise reading.refuse(f"{_shown(node, reading.condition.text)} isn't true or false for each row; compare it")


def _compared(one: ast.expr, how: ast.cmpop, other: ast.expr, reading: _Reading) -> Rows:
    left, right = _value(one, reading), _value(other, reading)
    if not any(isinstance(side, pd.Series) for side in (left, right)):
        raise reading.refuse(f"{_shown(one, reading.condition.text)} is compared with no column")
    if isinstance(how, ast.In | ast.NotIn):
        found = left.isin(right).to_numpy(dtype=bool)
        return (found if isinstance(how, ast.In) else ~found) & left.notna().to_numpy()
    try:
        found = COMPARISONS[type(how)](left, right)
    except TypeError:
        raise reading.refuse(
            f"{_shown(one, reading.condition.text)} and {_shown(other, reading.condition.text)} can't be ordered: one "
            "is text, the other isn't"
        ) from None
    present = np.ones(len(reading.table), dtype=bool)
    for side in (left, right):
        if isinstance(side, pd.Series):
            present &= side.notna().to_numpy()
    return np.asarray(found.fillna(False), dtype=bool) & present


def _value(node: ast.expr, reading: _Reading) -> Any:
    match node:
        case ast.Name(id=name):
            return reading.table[reading.condition.quoted.get(name, name)]
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, reading) for part in parts]
    raise reading.refuse(f"{_shown(node, reading.condition.text)} is no column, text or number to compare with")
