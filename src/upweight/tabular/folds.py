"""Folds of a table: every class in each where it has the rows, and no group in two."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from upweight.tabular.read import LabelledTable

Positions = npt.NDArray[np.int64]
FOLDS = 5


def folds(table: LabelledTable, seed: int, most: int = FOLDS) -> Iterator[tuple[Positions, Positions]]:
    """Positions to train on and positions held out, of each fold."""
    number = number_of(table, most)
    nothing = np.zeros(len(table))
    if table.groups is None:
        split = (StratifiedKFold if table.classifies else KFold)(number, shuffle=True, random_state=seed)
    else:
        split = (StratifiedGroupKFold if table.classifies else GroupKFold)(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds, which a note says
        yield from split.split(nothing, table.labels, table.groups)


def number_of(table: LabelledTable, most: int = FOLDS) -> int:
    """How many folds there are: fewer where there are fewer groups, or where no class has so many rows."""
    found = most if table.groups is None else min(most, len(np.unique(table.groups)))
    if table.classifies:
        found = min(found, int(np.bincount(table.labels).max()))
    return max(2, min(found, len(table)))


def held_out(table: LabelledTable, share: float, seed: int) -> Positions:
    """Positions of about a share of the rows, of every class that has two or more; of whole groups."""
    from sklearn.model_selection import train_test_split

    if table.groups is not None:
        return next(folds(table, seed, round(1 / share)))[1]
    everything = np.arange(len(table))
    if not table.classifies:
        return np.sort(train_test_split(everything, test_size=share, random_state=seed)[1])
    counts = np.bincount(table.labels, minlength=len(table.classes))
    shared = everything[counts[table.labels] > 1]
    found = train_test_split(shared, test_size=share, stratify=table.labels[shared], random_state=seed)[1]
    return np.sort(found)
