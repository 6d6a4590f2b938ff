"""The random projection: the same matrix however it is cut, inner products kept on average."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from problems import DOUBLE, close, mlp
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


def test_the_sparse_matrix_has_one_sign_in_each_part_of_a_row():
    p, k = 300, 50
    found = Projection(p, k, (1,), "sparse").sparse(torch.empty(0, dtype=DOUBLE)).to_dense().T
    assert found.shape == (p, k)
    assert set(found.unique().tolist()) == {-0.5, 0.0, 0.5}
    for part in np.array_split(np.arange(k), 4):
        assert bool((found[:, part].count_nonzero(1) == 1).all())
    close(found.square().sum(1), torch.ones(p, dtype=DOUBLE))  # so that norms of single entries are exact
    assert Projection(p, 2, (1,), "sparse").sparse(torch.empty(0)).to_dense().count_nonzero() == 2 * p
    other = Projection(p, k, (2,), "sparse").sparse(torch.empty(0, dtype=DOUBLE)).to_dense().T
    assert not torch.equal(found, other)


def test_the_sparse_projection_keeps_inner_products_with_the_variance_of_dense_ones():
    """Of (‖x‖²‖y‖² + ⟨x, y⟩²)/k at most, for vectors with a few large entries too."""
    x, y = torch.randn(2, 60, dtype=DOUBLE)
    x[:2] *= 10
    y[:2] *= 10
    exact, k = float(x @ y), 40
    draws = [Projection(60, k, (seed,), "sparse").sparse(x) for seed in range(400)]
    found = torch.stack([(matrix @ x[:, None]).T @ (matrix @ y[:, None]) for matrix in draws]).flatten()
    variance = float((x @ x) * (y @ y) + exact**2) / k
    assert abs(float(found.mean()) - exact) < 4 * (variance / 400) ** 0.5
    assert float(((found - exact) ** 2).mean()) < 1.3 * variance


@pytest.mark.usefixtures("unchecked")
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_sparse_features_do_not_depend_on_batches(rows, seed):
    objective = mlp().objective()
    given = Projection(objective.p, 9, (seed,))
    gradients = objective.engine.function.each(objective.params, (mlp().x, mlp().y)).materialize()
    found = projected(objective.engine.function, objective.params, objective.data, rows, given)
    close(found, gradients @ given.sparse(objective.params).to_dense().T)


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
