"""Ranks and their agreement are SciPy's."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from upweight.linalg.ranks import rank_agreement, ranks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_numbers_share_the_mean_of_their_ranks(dtype: torch.dtype) -> None:
    rows = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows[1], rows[2], rows[3, 4] = rows[1].round(), 0.0, torch.nan
    expected = torch.from_numpy(stats.rankdata(rows.numpy(), axis=1)).double()  # since SciPy 1.18 as the rows
    torch.testing.assert_close(ranks(rows), expected, equal_nan=True, rtol=0, atol=0)
    both = rows[:2], rows[:2].flip(1)
    spearman = [stats.spearmanr(*pair).statistic for pair in zip(*both, strict=True)]
    assert rank_agreement(*both) == pytest.approx(sum(spearman) / 2)
    assert rank_agreement(rows[2:4], rows[2:4]) == 1.0
