"""Names of stored examples and columns of what else is known of them: text and numbers, chosen from by filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight import positions, scalars
from upweight.errors import InputError
from upweight.names import distinct

Where = Mapping[str, Any] | Callable[[dict[str, np.ndarray]], Any]


@dataclass(frozen=True, eq=False)
class Examples:
    """Names and columns of n examples, in their order."""

    ids: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def given(cls, ids: Any, columns: Any, n: int) -> Examples:
        """Checked: a name for each, none twice, and a value for each in every column.

        Raises
        ------
        InputError
            Names the column, or what is missing or stands twice.
        """
        names = _plain("ids", distinct("ids", ids, n, "training example"))
        if columns is None:
            return cls(names, {})
        if not isinstance(columns, Mapping):
            raise InputError(f"columns: give arrays by name, {{'label': y}}; got {scalars.shown(columns)}")
        found = {}
        for name, values in columns.items():
            scalars.text("columns: a name", name)
            array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
            if array.shape != (n,):
                raise InputError(f"columns: {name!r} needs one value per example, {n}; got shape {array.shape}")
            found[name] = _plain(f"columns: {name!r}", array)
        return cls(names, found)

    def said(self) -> dict[str, Any]:
        """As a description holds them."""
        return {"ids": _packed(self.ids), "columns": {name: _packed(each) for name, each in self.columns.items()}}

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> Examples:
        """From a description."""
        columns = {name: _unpacked(each) for name, each in described["columns"].items()}
        return cls(_unpacked(described["ids"]), columns)

    @classmethod
    def joined(cls, parts: Iterable[Examples]) -> Examples:
        """Several, one after the other."""
        listed = list(parts)
        columns = {name: _cat([part.columns[name] for part in listed]) for name in listed[0].columns}
        return cls(_cat([part.ids for part in listed]), columns)

    def chosen(self, where: Any, train: Any) -> Tensor:
        """Positions, in increasing order where ``train`` doesn't say, that a filter takes and ``train`` names.

        Raises
        ------
        InputError
            If a column is unknown, a filter is none, or nothing is left.
        """
        found = torch.arange(len(self.ids)) if train is None else positions.read(train, self.ids, "train")
        if where is None:
            return found
        mask = self._mask(where)
        kept = found[torch.from_numpy(mask)[found]]
        if not len(kept):
            raise InputError(f"where: none of {len(found):,} examples is chosen by {scalars.shown(where)}")
        return kept

    def _mask(self, where: Any) -> np.ndarray:
        if callable(where):
            mask = np.asarray(where(dict(self.columns)))
            if mask.dtype != bool or mask.shape != self.ids.shape:
                raise InputError(
                    f"where: the function must give one boolean per example, {len(self.ids)}; got {mask.dtype} of "
                    f"shape {mask.shape}"
                )
            return mask
        if not isinstance(where, Mapping) or not where:
            raise InputError(
                f"where: give values by column, {{'label': 3}}, or a function of the columns; got "
                f"{scalars.shown(where)}"
            )
        mask = np.ones(len(self.ids), dtype=bool)
        for name, wanted in where.items():
            if name not in self.columns:
                known = ", ".join(map(repr, self.columns)) or "none"
                raise InputError(f"where: there is no column {name!r}; the index has {known}")
            values = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Iterable) else list(wanted)
            mask &= np.isin(self.columns[name], np.asarray(values))
        return mask


def _plain(name: str, values: np.ndarray) -> np.ndarray:
    """Text or numbers; objects that are all text as text."""
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        values = values.astype(str)
    if values.dtype.kind not in "biufU":
        raise InputError(f"{name}: give text or numbers; got {values.dtype}")
    return values


def _packed(values: np.ndarray) -> dict[str, Any]:
    return {"kind": values.dtype.str, "values": values.tolist()}


def _unpacked(said: Mapping[str, Any]) -> np.ndarray:
    return np.array(said["values"], dtype=np.dtype(said["kind"]))


def _cat(parts: list[np.ndarray]) -> np.ndarray:
    kinds = {"text" if part.dtype.kind == "U" else "numbers" for part in parts}
    if len(kinds) > 1:
        raise InputError("ids and columns: text was appended to numbers; give what the index has already")
    return np.concatenate(parts)
