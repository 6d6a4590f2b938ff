"""The extremes of rows that come piece by piece are those of a stable sort of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from upweight.linalg.extremes import Extremes, extremes


def sorted_whole(values: Tensor, k: int, descending: bool) -> Tensor:
    return torch.argsort(values, dim=1, descending=descending, stable=True)[:, :k]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("kind", ["distinct", "ties", "equal", "nan"])
@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_as_a_stable_sort_has_them(descending: bool, kind: str, k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    values = torch.randn(5, 40, generator=generator)
    if kind == "ties":
        values = values.mul(2).round()
    elif kind == "equal":
        values = torch.zeros(5, 40)
    elif kind == "nan":
        values[torch.rand(5, 40, generator=generator) < 0.2] = torch.nan
    expected = sorted_whole(values, k, descending)
    for width in (40, 9, 1):
        found: Extremes | None = None
        for start in range(0, 40, width):
            part = extremes(values[:, start : start + width], start, k, descending=descending)
            found = part if found is None else found.and_of(part, k)
        assert found is not None
        assert torch.equal(found.places, expected)
        torch.testing.assert_close(found.values, values.gather(1, expected), equal_nan=True, rtol=0, atol=0)
