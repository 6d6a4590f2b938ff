"""Scores of an index that loses nothing, against inverses of whole matrices in float64."""

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, conv, convex, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.store.backend import Memory

WHOLE = {
    "leading": uw.index.Leading(10**6),
    "factored": uw.index.Factored(10**6),
    "sparse": uw.index.Sparse(10**6),
    "factors": uw.index.LowRank(10**6, curvature_rank=10**6),
}
PROBLEMS = {"softmax": lambda: convex("softmax"), "mlp": mlp, "conv": conv}


def exact(objective, queries, curvature, damping=0.1):
    return uw.Influence(objective, uw.inverse.Dense(curvature, damping=damping)).attribute(queries)


def indexed(objective, projection, curvature, **options):
    return uw.index.build(objective, Memory(), projection, dtype="float64", curvature=curvature, **options)


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher()], ids=["ggn", "fisher"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("projection", WHOLE)
def test_an_index_of_all_numbers_gives_the_exact_scores(projection, problem, curvature):
    given = PROBLEMS[problem]()
    weights = torch.linspace(0.5, 2, given.n, dtype=DOUBLE)
    objective = given.objective(weights=weights)
    index = indexed(objective, WHOLE[projection], curvature)
    found = index.scores(index.project(objective, given.queries), damping=0.1)
    expected = exact(objective, given.queries, curvature)
    close(found.scores, expected.scores, rtol=1e-5, atol=1e-8)
    assert found.quantity == expected.quantity
    assert found.damping == 0.1


@pytest.mark.parametrize("coefficients", [True, False])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_scores_of_factors_are_those_of_the_truncated_matrix(rank, coefficients):
    problem = mlp()
    objective = problem.objective()
    index = indexed(objective, uw.index.LowRank(9, curvature_rank=rank, coefficients=coefficients), EmpiricalFisher())
    found = index.scores(index.project(objective, problem.queries), damping=0.05)
    g, q = problem.gradients(), problem.query_gradients()
    values, vectors = torch.linalg.eigh(g.T @ g / problem.n)
    kept = vectors[:, -rank:]
    matrix = kept @ torch.diag(values[-rank:]) @ kept.T + (0.05 + problem.l2) * torch.eye(g.shape[1], dtype=DOUBLE)
    close(found.scores, q @ torch.linalg.inv(matrix) @ g.T / problem.n, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "projection",
    [
        uw.index.Leading(7),
        uw.index.Factored(2, "random"),
        uw.index.Factored(2, "leading"),
        uw.index.Sparse(9),
        uw.index.Sparse(12, seed=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher(), Fisher(2)], ids=["ggn", "gradients", "sampled"])
def test_the_inverse_acts_in_the_space_of_rows(projection, curvature):
    problem = mlp()
    objective = problem.objective()
    index = indexed(objective, projection, curvature)
    queries = index.project(objective, problem.queries)
    from upweight.index.building import fitted_of

    fitted = fitted_of(index._stored, index.description, objective)

    def rows_of(found):
        return fitted.projector.of(found)

    phi = torch.cat([rows_of(found) for _, found in objective.engine.each()])
    made = torch.cat([rows_of(found) for _, found in curvature.rows(objective).blocks(100)])
    matrix = made.T @ made + torch.diag(fitted.penalty + 0.03)
    asked = queries.rows * fitted.scale
    expected = asked @ torch.linalg.inv(matrix) @ phi.T / problem.n
    close(index.scores(queries, damping=0.03).scores, expected, rtol=1e-8, atol=1e-11)


def test_entries_that_carry_most_are_kept():
    problem = mlp()
    objective = problem.objective()
    index = indexed(objective, uw.index.Leading(6), None)
    kept = index._stored.tensors("projector")
    assert float(kept["inside"][1].sum()) == 6
    assert float(kept["inside"][0].min()) >= float(kept["outside"][0].max()) * (1 - 1e-9)
    total = float((kept["inside"][0] * kept["inside"][1]).sum() + (kept["outside"][0] * kept["outside"][1]).sum())
    whole = uw.inverse.EKFAC(Fisher(1, 0), damping=1.0).fit(objective).operator
    assert total == pytest.approx(sum(float(value.sum()) for value in whole.values))


def test_uses_of_several_positions_are_cut_to_the_best_approximation_of_their_rank():
    problem = conv()
    objective = problem.objective()
    index = indexed(objective, uw.index.LowRank(1, rows=100), GGN())
    held = next(iter(index._stored.rows(index.description, index._parts, torch.arange(index.n))))[3]
    (count, left, right), *_ = index.description.shapes
    assert (count, left, right) == (1, 2, 10)
    matrices = held["values"][:, :left, None] * held["values"][:, None, left : left + right]
    each = objective.engine.function.each(objective.params, objective.data.take(range(objective.n)))
    whole = each.blocks[0].materialize()
    values = torch.linalg.svdvals(whole)
    close((whole - matrices).square().sum((1, 2)), values[:, 1:].square().sum(1), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
def test_embeddings_and_scales_of_norms_have_rows_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 3), nn.LayerNorm(3), nn.Flatten(), nn.Linear(6, 2)).to(DOUBLE).eval()
    x, y = torch.randint(7, (12, 2)), torch.arange(12) % 2
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.1)
    expected = exact(objective, (x[:3], y[:3]), GGN()).scores
    for projection in WHOLE.values():
        index = indexed(objective, projection, GGN())
        found = index.scores(index.project(objective, (x[:3], y[:3])), damping=0.1).scores
        close(found, expected, rtol=1e-5, atol=1e-8)


def test_sizes_are_believed_where_nothing_is_lost_and_only_there():
    problem = convex("softmax")
    objective = problem.objective()
    whole = indexed(objective, uw.index.Leading(100), GGN())
    assert whole.magnitude(0.0).trusted
    assert "shrinks" in whole.magnitude(1.0).reason
    part = indexed(objective, uw.index.Leading(5), EmpiricalFisher())
    assert not part.magnitude(0.0).trusted
    assert "rows of 5 numbers" in part.magnitude(0.0).reason
    assert "Fisher" in part.magnitude(0.0).reason
