"""What is known of a study's training examples, as columns that a store keeps beside their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from upweight.study import Study

LABEL = "label"
NONE = "none"


def columns(study: Study, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Columns by name: those of the study's table or its objective, and labels of training data that are arrays.

    Parameters
    ----------
    names
        Which of them; default all. ``["none"]`` is none.

    Raises
    ------
    InputError
        If the study has no such column.
    """
    from upweight.errors import InputError

    if names is not None and list(names) == [NONE]:
        return {}
    found = {str(name): values for name, values in _known(study).items()}
    labels = None if LABEL in found else _labels(study)
    have: dict[str, Any] = found if labels is None else {LABEL: labels, **found}
    unknown = [name for name in names or () if name not in have]
    if unknown:
        there = f"it has {', '.join(have)}" if have else "it gives no table= of its training examples"
        raise InputError(f"--columns: the study has no column {unknown[0]!r}; {there}")
    wanted = list(have) if names is None else list(dict.fromkeys(names))
    return {name: have[name] if isinstance(have[name], np.ndarray) else kept(have[name]) for name in wanted}


def kept(column: pd.Series) -> np.ndarray:
    """A column of a table as a store keeps it: numbers and times as they are, all else as text, "" where it is missing.

    Whole numbers with gaps become floats with NaN.
    """
    import pandas as pd

    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) and not column.isna().any():
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        gaps = pd.api.types.is_bool_dtype(kind) or (not isinstance(kind, np.dtype) and column.isna().any())
        return column.to_numpy(dtype=np.float64, na_value=np.nan) if gaps else column.to_numpy()
    if pd.api.types.is_datetime64_dtype(kind):
        return column.to_numpy()
    return np.array(["" if pd.isna(value) is True else str(value) for value in column], dtype=str)


def _known(study: Study) -> dict[Any, pd.Series]:
    """What the study says of its training examples."""
    import pandas as pd

    if study.table is not None:
        return {name: study.table[name] for name in study.table.columns}
    return {name: pd.Series(list(values)) for name, values in study.objective.columns.items()}


def _labels(study: Study) -> np.ndarray | None:
    """Labels of training examples that are held as arrays, one each; None of others."""
    from upweight.data import ArrayData
    from upweight.errors import InputError
    from upweight.losses import split_batch
    from upweight.predictions import named

    data = study.objective.data
    if not isinstance(data, ArrayData):
        return None
    try:
        targets = split_batch(data.arrays)[1]
    except InputError:
        return None
    if targets.numel() != study.objective.n:
        return None
    flat = targets.reshape(-1)
    try:
        labels = named(flat, None if flat.is_floating_point() else study.class_names)
    except InputError:  # more classes than names
        return None
    return labels.astype(str) if labels.dtype.kind == "O" else labels
