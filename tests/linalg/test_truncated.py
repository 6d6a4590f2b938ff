"""Matrices by their largest singular directions are those of the whole decomposition."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from problems import DOUBLE, close
from upweight.linalg.ranks import rank_agreement
from upweight.linalg.truncated import truncated


@pytest.mark.parametrize(("rows", "columns"), [(40, 25), (25, 40), (6, 5)])
@pytest.mark.parametrize("rank", [1, 4])
def test_the_best_approximation_is_found_where_values_fall(rows: int, columns: int, rank: int) -> None:
    sides = [torch.linalg.qr(torch.randn(3, size, min(rows, columns), dtype=DOUBLE)).Q for size in (rows, columns)]
    values = 0.1 ** torch.arange(min(rows, columns), dtype=DOUBLE)
    matrices = sides[0] * values @ sides[1].mT
    left, right, kept = truncated(matrices, rank)
    assert left.shape == (3, rank, rows)
    assert right.shape == (3, rank, columns)
    best = sides[0][:, :, :rank] * values[:rank] @ sides[1][:, :, :rank].mT
    close(left.mT @ right, best, rtol=1e-5, atol=1e-8)
    close(kept, torch.full((3,), float(values[:rank].square().sum() / values.square().sum()), dtype=DOUBLE))


def test_all_of_it_is_kept_at_full_rank_and_nothing_of_nothing() -> None:
    matrices = torch.randn(2, 7, 5, dtype=DOUBLE)
    left, right, kept = truncated(matrices, 5)
    close(left.mT @ right, matrices)
    close(kept, torch.ones(2, dtype=DOUBLE))
    left, right, kept = truncated(torch.zeros(1, 7, 5, dtype=DOUBLE), 2)
    assert not (left.mT @ right).any()
    assert kept.tolist() == [1.0]


def test_agreement_in_order_is_spearmans() -> None:
    first = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    second = torch.tensor([[10.0, 20.0, 40.0, 30.0], [-1.0, -2.0, -3.0, -4.0]])
    assert rank_agreement(first, second) == pytest.approx((0.8 - 1.0) / 2)
    assert rank_agreement(first[:, :1], second[:, :1]) == 1.0
    tied = torch.tensor([[0.0, 0.0, 1.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    assert rank_agreement(tied, first) == pytest.approx(float(stats.spearmanr(tied[0], first[0]).statistic))
