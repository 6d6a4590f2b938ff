"""The extremes of rows are those of a stable sort, whatever numbers they hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from upweight.linalg import extremes as module
from upweight.linalg.extremes import extremes, merged

ROWS, COLUMNS = 40, 97


def rows(kind: str, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(ROWS, COLUMNS, generator=generator).to(dtype)
    if kind == "ties":
        values = (2 * values).round()
    if kind == "nan":
        values[torch.rand(values.shape, generator=generator) < 0.1] = torch.nan
        values[1], values[2, 3:] = torch.nan, torch.nan
    if kind == "infinite":
        values[torch.rand(values.shape, generator=generator) < 0.2] = torch.inf
    if kind == "zeros":
        values = torch.where(values > 0, 0.0, -0.0).to(dtype)
    return values


@pytest.mark.parametrize("kind", ["plain", "ties", "nan", "infinite", "zeros"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 3])
def test_they_are_those_of_a_stable_sort(
    kind: str, dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 5 * COLUMNS)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    values = rows(kind, dtype)
    for descending in (True, False):
        order = torch.argsort(values, dim=1, descending=descending, stable=True)
        for k in (1, 10, COLUMNS - 1, COLUMNS, COLUMNS + 1):
            found = extremes(values, 7, k, descending=descending)
            assert torch.equal(found.places, order[:, :k] + 7)
            assert torch.equal(found.values.nan_to_num(), values.gather(1, order[:, :k]).nan_to_num())


@pytest.mark.parametrize("kind", ["plain", "ties", "nan"])
def test_pieces_in_order_are_the_whole(kind: str) -> None:
    values, bounds = rows(kind, torch.float32), [0, 30, 34, 80, COLUMNS]
    for descending in (True, False):
        pieces = [extremes(values[:, start:stop], start, 8, descending=descending) for start, stop in pairwise(bounds)]
        whole = extremes(values, 0, 8, descending=descending)
        for grouped in (merged(pieces, 8), merged([merged(pieces[:2], 8), *pieces[2:]], 8)):
            assert torch.equal(grouped.places, whole.places)
            assert torch.equal(grouped.values.nan_to_num(), whole.values.nan_to_num())
