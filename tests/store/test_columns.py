"""Names and columns come back as they were, whichever of them are asked for."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upweight.errors import InputError
from upweight.store import Memory
from upweight.store import columns as module
from upweight.store.blocks import Blocks
from upweight.store.columns import Column, checked, write

VALUES: dict[str, Any] = {
    "positions": np.arange(10),
    "numbers": np.array([3.5, -1, np.nan]),
    "halves": np.array([1, 2], dtype=np.float16),
    "small": np.arange(5, dtype=np.int16)[::-1],
    "times": np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
    "flags": [True, False, True],
    "texts": ["", "é", "a\nb", "\ud800", "x" * 100],
    "none": [],
    "objects": np.array([1, 2], dtype=object),
    "days": [datetime.date(2020, 1, 1), datetime.date(1999, 12, 31)],
    "moments": [datetime.datetime(2020, 1, 1, 12, 30), datetime.datetime(1999, 12, 31)],
    "spans": [datetime.timedelta(seconds=3), datetime.timedelta(days=2)],
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("size", [16, 2**20])
def test_whatever_is_asked_for(monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    monkeypatch.setattr(module, "BYTES", size)
    values = checked("column", VALUES[name], len(VALUES[name]))
    blocks = Blocks(Memory())
    column = Column(blocks, write(blocks, "column", values))
    assert len(column) == len(values)
    np.testing.assert_array_equal(column.all(), values)
    assert values.dtype.kind != "O"
    np.testing.assert_array_equal(column[:], values)
    assert column.all().dtype.kind == values.dtype.kind
    if len(values):
        some = np.array([[len(values) - 1, 0], [0, len(values) - 1]])
        np.testing.assert_array_equal(column[some], values[some])
        np.testing.assert_array_equal(column[::-1], values[::-1])


def test_tensors_are_columns_too() -> None:
    for value in (torch.ones(2).bfloat16(), torch.ones(2, requires_grad=True), torch.arange(2)):
        np.testing.assert_array_equal(checked("column", value, 2), value.detach().float().numpy())


@given(st.lists(st.text(), max_size=30), st.integers(1, 50))
@example(["a\0", "\0", ""], 7)
@settings(max_examples=50, deadline=None)
def test_any_texts(texts: list[str], size: int) -> None:
    blocks = Blocks(Memory())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BYTES", size)
        column = Column(blocks, write(blocks, "column", checked("column", texts, len(texts))))
    assert column.all().tolist() == texts
    assert [column[place : place + 1].tolist() for place in range(len(texts))] == [[text] for text in texts]


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [None, "b"],
        [1j, 0],
        [[1, 2], [3, 4]],
        3,
        [b"a", b"b"],
        [1, 2, 3],
        [2**64] * 2,
        [datetime.date(2020, 1, 1), "b"],
    ],
)
def test_what_would_not_come_back_is_refused(values: Any) -> None:
    with pytest.raises(InputError, match="column"):
        checked("column", values, 2)
