"""The random projection: the same matrix however it is cut, inner products kept on average."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from problems import DOUBLE, close, mlp
from sketches import matrix_of
from upweight.baselines import projection
from upweight.baselines.projection import Projection, projected
from upweight.errors import InputError

KINDS = ("gaussian", "rademacher")


def matrix(of, like=None):
    return torch.cat(list(of.blocks(torch.empty(0, dtype=DOUBLE) if like is None else like))).T


@pytest.mark.usefixtures("unchecked")  # for speed
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), rows=st.integers(1, 40), columns=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_features_do_not_depend_on_blocks_or_batches(kind, rows, columns, seed):
    objective = mlp().objective()
    given = Projection(objective.p, 9, (seed,), kind)
    gradients = objective.engine.function.each(objective.params, (mlp().x, mlp().y)).materialize()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "PROJECTION_ELEMENTS", columns * objective.p)
        assert max(len(block) for block in given.blocks(objective.params)) == min(columns, 9)
        found = projected(objective.engine.function, objective.params, objective.data, rows, given)
    close(found, gradients @ matrix(given))


@pytest.mark.parametrize("kind", KINDS)
def test_entries_have_mean_zero_variance_one_over_k_and_are_independent(kind):
    p, k = 400, 300
    entries = matrix(Projection(p, k, (1,), kind)) * k**0.5
    assert abs(float(entries.mean())) < 4 / (p * k) ** 0.5
    assert abs(float((entries**2).mean()) - 1) < 4 * (2 / (p * k)) ** 0.5
    across = entries.T @ entries / p - torch.eye(k, dtype=DOUBLE)
    assert float(across.fill_diagonal_(0).abs().max()) < 6 / p**0.5
    if kind == "rademacher":
        assert set(entries.round(decimals=6).unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_are_kept_on_average(kind):
    vectors = torch.randn(4, 50, dtype=DOUBLE)
    draws = [vectors @ matrix(Projection(50, 40, (seed,), kind)) for seed in range(200)]
    mean = torch.stack([draw @ draw.T for draw in draws]).mean(0)
    scale = vectors.norm(dim=1)
    assert ((mean - vectors @ vectors.T).abs() / (scale[:, None] * scale)).max() < 5 * (2 / (40 * 200)) ** 0.5


@pytest.mark.usefixtures("unchecked")
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_sparse_features_do_not_depend_on_batches(rows, seed):
    objective = mlp().objective()
    given = Projection(objective.p, 9, (seed,))
    gradients = objective.engine.function.each(objective.params, (mlp().x, mlp().y)).materialize()
    found = projected(objective.engine.function, objective.params, objective.data, rows, given)
    close(found, gradients @ matrix_of(given.sketch(objective.layout, objective.device), objective.layout))


def test_seeds_and_precisions():
    one, other = (Projection(20, 3, seed, "rademacher") for seed in ((0, 1), (0, 2)))
    assert not torch.equal(matrix(one), matrix(other))
    close(matrix(one, torch.empty(0)), matrix(one).float(), rtol=1e-6)


def test_nothing_is_projected_where_it_would_not_shrink():
    objective = mlp().objective()
    gradients = objective.engine.function.each(objective.params, (mlp().x, mlp().y)).materialize()
    found = projected(
        objective.engine.function, objective.params, objective.data, 7, Projection(objective.p, 999, (0,))
    )
    close(found, gradients)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": 0}, "dimension: give a whole number"),
        ({"dimension": 2.5}, "dimension: give a whole number"),
        ({"seed": (-1,)}, "seed: give a whole number"),
        ({"seed": (np.nan,)}, "seed: give a whole number"),
        ({"kind": "srht"}, "projection: one of"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Projection(**{"p": 10, "dimension": 3, "seed": (0,), **changes})


def test_a_seed_of_two_words_is_no_other_seed_with_another_number():
    """numpy's SeedSequence reads 2³² as the words 0 and 1."""
    first, second = (Projection(100, 8, seed, "gaussian").column(3) for seed in ((2**32, 0), (0, 1)))
    assert (first != second).any()
