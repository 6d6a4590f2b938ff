"""K-FAC and EK-FAC: exact where the approximation is, of every use of every layer, the same whatever the batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

import upweight as uw
from gradients.layers import LAYERS, Example
from problems import DOUBLE, Problem, close, conv, convex, mlp, squared
from upweight.curvature import GGN, EmpiricalFisher, Fisher, Hessian, Matrix, kronecker
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import kronecker_factors
from upweight.errors import InputError
from upweight.gradients import Block, Shape
from upweight.gradients.terms import Direct, Lookup, Outer
from upweight.inverse import CG, EKFAC, KFAC, MeanEigenvalue, MeanLeverage
from upweight.inverse.kfac import factored_damping
from upweight.losses import CrossEntropy, SquaredError

BOTH = [EKFAC, KFAC]
SLOW = pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")


def objective_of(example: Example, **options: Any) -> uw.Objective:
    x = example.x.double() if example.x.is_floating_point() else example.x
    return uw.Objective(example.model.eval().double(), CrossEntropy(), (x, example.y), **options)


def one_by_one(objective: uw.Objective) -> Tensor:
    """√(w/n)·∇ℓ of every example, alone in its batch: nothing of the package but the order of θ."""
    rows = []
    for i in range(objective.n):
        x, y = objective.data.take([i])
        named = {name: value.detach().requires_grad_() for name, value in objective.model.named_parameters()}
        out = functional_call(objective.model, named, (x,))
        value = nn.functional.cross_entropy(out.flatten(0, -2), y.flatten(), reduction="sum")
        chosen = [named[name] for name in objective.layout.names]
        found = torch.autograd.grad(value, chosen, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([grad.flatten() for grad in found]))
    return torch.stack(rows) * (objective.weights / objective.n).sqrt()[:, None]


def rotated(operator: EigenOperator, vectors: Tensor) -> Tensor:
    """Vectors in the operator's basis, by the orthogonal matrices of every block alone."""
    parts = []
    for basis, matrices in zip(operator.bases, operator.frame.matrices(vectors), strict=True):
        seen = matrices.flatten(1)[:, None] if basis.flat else matrices
        left, right = (
            torch.eye(d, dtype=DOUBLE) if q is None else q
            for q, d in zip((basis.left, basis.right), seen.shape[1:], strict=True)
        )
        assert all((q.T @ q - torch.eye(len(q))).norm() < 1e-9 for q in (left, right))
        parts.append(torch.einsum("krc,ri,cj->kij", seen, left, right).flatten(1))
    return torch.cat(parts, dim=1)


def rotation(operator: EigenOperator) -> Tensor:
    """Q as one matrix, eigenvectors in rows; for small p."""
    return rotated(operator, torch.eye(operator.size, dtype=DOUBLE)).T


def moments(operator: EigenOperator) -> Tensor:
    return torch.cat([values.flatten() for values in operator.values])


def block_diagonal(operator: EigenOperator, matrix: Tensor) -> Tensor:
    """The matrix without what stands between two blocks."""
    number = operator.frame.vectors(
        [torch.full((1, b.shape.rows, b.shape.columns), float(i), dtype=DOUBLE) for i, b in enumerate(operator.bases)]
    )[0]
    return matrix * (number[:, None] == number)


def second_moment(rows: Tensor) -> Tensor:
    return rows.T @ rows


@SLOW
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_the_second_moments_of_its_own_gradients(name: str) -> None:
    objective = objective_of(LAYERS[name](), l2=0.01)
    solver = EKFAC(EmpiricalFisher(), damping=0.1).fit(objective)
    truth = one_by_one(objective)
    turned = rotated(solver.operator, truth)
    close(moments(solver.operator), (turned**2).sum(0), atol=1e-9)
    solved = rotated(solver.operator, solver.solve(truth).x)
    close(solved, turned / ((turned**2).sum(0) + 0.11), atol=1e-9)


FORMS = [
    *("mlp", "attention, batch first", "language model", "tied weights", "plain parameters", "Conv1D of GPT-2"),
    *("a weight used both ways", "embedding bag, mean", "conv2d", "conv2d, groups", "PReLU, which has no rule"),
]


@SLOW
@pytest.mark.parametrize("inverse", BOTH)
@pytest.mark.parametrize("name", FORMS)
def test_scores_by_factors_are_those_of_the_solution(name: str, inverse: type[EKFAC | KFAC]) -> None:
    objective = objective_of(LAYERS[name](), l2=0.01)
    solver = inverse(EmpiricalFisher(), damping=0.1).fit(objective)
    batch = objective.data.take(list(range(objective.n)))
    for compacted in (True, False):
        train = objective.engine.function.each(objective.params, batch, compacted=compacted)
        scores = solver.scorer(train.take(slice(0, 3)))(train)
        gradients = train.materialize()
        close(scores, solver.solve(gradients[:3]).x @ gradients.T, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_kfac_of_a_linear_layer_is_what_the_paper_says(bias: bool) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 4, bias=bias), nn.Tanh(), nn.Linear(4, 2, bias=bias)).double()
    x, y = torch.randn(9, 3, dtype=DOUBLE), torch.randn(9, 2, dtype=DOUBLE)
    found = KFAC(EmpiricalFisher(), damping=1.0).fit(uw.Objective(model, SquaredError(), (x, y))).operator.dense()
    hidden = model[1](model[0](x))
    g2 = model[2](hidden) - y
    g1 = (g2 @ model[2].weight) * (1 - hidden**2)
    at = 0
    for a, g in ((x, g1), (hidden, g2)):
        c = a.shape[1]
        inputs = torch.cat([a, torch.ones(9, 1, dtype=DOUBLE)], 1) if bias else a
        expected = torch.kron(g.T @ g / 9, inputs.T @ inputs / 9).reshape(g.shape[1], -1, g.shape[1], inputs.shape[1])
        weights = expected[:, :c, :, :c].reshape(g.shape[1] * c, -1)  # θ holds the weight first, then the bias
        size = len(weights)
        close(found[at : at + size, at : at + size], weights)
        if bias:
            corner = slice(at + size, at + size + g.shape[1])
            close(found[corner, corner], expected[:, c, :, c])
            close(found[at : at + size, corner], expected[:, :c, :, c].reshape(size, -1))
        at += size + bias * g.shape[1]


def positions() -> tuple[nn.Module, Tensor, Tensor]:
    """A layer at 5 positions of each example, the last position left out by the loss in half the examples."""
    torch.manual_seed(4)
    x, y = torch.randn(8, 5, 3, dtype=DOUBLE), torch.randint(0, 4, (8, 5))
    y[::2, 4] = -100
    return nn.Linear(3, 4, bias=False).double(), x, y


def test_expand_and_reduce_are_what_the_paper_says() -> None:
    model, x, y = positions()
    hidden = nn.Sequential(model, nn.Tanh(), nn.Linear(4, 4).double().requires_grad_(False))
    leaf = hidden[0](x).detach().requires_grad_()
    loss = nn.functional.cross_entropy(hidden[2](torch.tanh(leaf)).flatten(0, 1), y.flatten(), reduction="sum")
    (g,) = torch.autograd.grad(loss, leaf)
    kept = y != -100
    objective = uw.Objective(hidden, CrossEntropy(), (x, y))
    rows = EmpiricalFisher().rows(objective)
    (expand,) = kronecker_factors(rows, "expand").values()
    close(expand.left, second_moment(g[kept]) / 8)
    close(expand.right, second_moment(x[kept]) / kept.sum())
    (reduce,) = kronecker_factors(rows, "reduce").values()
    mean = (x * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True)
    close(reduce.left, second_moment(g.sum(1)) / 8)
    close(reduce.right, second_moment(mean) / 8)


def test_all_positions_count_where_it_is_asked_for() -> None:
    """By the definition: positions that a ReLU switches off, or the loss ignores, are part of the mean."""
    model, x, y = positions()
    objective = uw.Objective(model, CrossEntropy(), (x, y))
    leaf = model(x).detach().requires_grad_()
    loss = nn.functional.cross_entropy(leaf.flatten(0, 1), y.flatten(), reduction="sum")
    (g,) = torch.autograd.grad(loss, leaf)
    rows = EmpiricalFisher().rows(objective)
    (expand,) = kronecker_factors(rows, "expand", "all").values()
    close(expand.left, second_moment(g.flatten(0, 1)) / 8)
    close(expand.right, second_moment(x.flatten(0, 1)) / 40)
    (reduce,) = kronecker_factors(rows, "reduce", "all").values()
    close(reduce.right, second_moment(x.mean(1)) / 8)


@pytest.mark.parametrize("inputs", ["active", "all"])
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_ekfac_has_the_diagonal_that_is_best_in_its_own_basis(approximation: Any, inputs: Any) -> None:
    objective = uw.Objective(positions()[0], CrossEntropy(), positions()[1:])
    operator = (
        EKFAC(EmpiricalFisher(), damping=0.1, penalized=True, approximation=approximation, inputs=inputs)
        .fit(objective)
        .operator
    )
    rows = one_by_one(objective)
    wanted = (rotated(operator, rows) ** 2).sum(0)
    close(torch.cat([value.flatten() for value in operator.values]), wanted)


class Patches(nn.Module):
    """A layer on an input whose dimensions were exchanged, as the patches of a vision transformer are."""

    def __init__(self, is_contiguous: bool):
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.head = nn.Linear(5, 6).double(), nn.Linear(24, 3).double()
        self.is_contiguous = is_contiguous

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.head(torch.tanh(self.embed(x.contiguous() if self.is_contiguous else x)).flatten(1))


class ReadTwice(nn.Module):
    """The product is read without its bias too, so that the bias is no column of the weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.weight = nn.Parameter(torch.randn(5, 4, dtype=DOUBLE))
        self.bias = nn.Parameter(torch.randn(4, dtype=DOUBLE))
        self.head = nn.Linear(4, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        product = x.mean(2) @ self.weight
        return self.head(torch.tanh(product + self.bias) + product)


@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
@pytest.mark.parametrize("inverse", BOTH)
def test_a_bias_belongs_to_its_weight_however_the_input_lies_in_memory(inverse: Any) -> None:
    x, y = torch.randn(9, 5, 4, dtype=DOUBLE), torch.arange(9) % 3
    given = [uw.Objective(Patches(is_contiguous), CrossEntropy(), (x, y)) for is_contiguous in (True, False)]
    shapes = [[shape.names for shape in objective.engine.function.plan.shapes] for objective in given]
    assert shapes[0] == shapes[1] == [("embed.weight", "embed.bias"), ("head.weight", "head.bias")]
    first, second = (
        uw.Influence(objective, inverse(GGN(), damping=0.1)).attribute((x, y)).scores for objective in given
    )
    close(first, second)
    apart = uw.Objective(ReadTwice(), CrossEntropy(), (x, y))
    assert [shape.names for shape in apart.engine.function.plan.shapes][:2] == [("weight",), ("bias",)]
    close(torch.cat([g for _, g in apart.example_gradients()]), one_by_one(apart) * 3)


@pytest.mark.parametrize("inverse", [EKFAC, KFAC, uw.inverse.Dual, uw.inverse.Diagonal])
@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
def test_one_training_example_is_enough(inverse: Any) -> None:
    model, (x, y) = Patches(True), (torch.randn(1, 5, 4, dtype=DOUBLE), torch.tensor([1]))
    alone = (
        uw.Influence(uw.Objective(model, CrossEntropy(), (x, y)), inverse(GGN(), damping=0.1)).attribute((x, y)).scores
    )
    twice = (torch.cat([x, x]), torch.cat([y, y]))
    both = (
        uw.Influence(uw.Objective(model, CrossEntropy(), twice), inverse(GGN(), damping=0.1)).attribute((x, y)).scores
    )
    close(alone, both.sum(1, keepdim=True))


def test_padding_that_the_loss_ignores_changes_nothing() -> None:
    example = LAYERS["language model"]()
    padded_x = torch.cat([example.x, torch.zeros(len(example.x), 3, dtype=torch.long)], 1)
    padded_y = torch.cat([example.y, torch.full((len(example.y), 3), -100)], 1)
    plain = kronecker_factors(EmpiricalFisher().rows(objective_of(example)))
    padded = kronecker_factors(EmpiricalFisher().rows(objective_of(replace(example, x=padded_x, y=padded_y))))
    for shape, factors in plain.items():
        close(torch.kron(*wide(factors)), torch.kron(*wide(padded[shape])))


def wide(factors: kronecker.Kronecker) -> list[Tensor]:
    return [torch.diag(side) if side.dim() == 1 else side for side in (factors.left, factors.right)]


def deep_linear() -> Problem:
    """Two layers without a nonlinearity, squared error, and one example (twice)."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()
    x, y = torch.randn(1, 3, dtype=DOUBLE).repeat(2, 1), torch.randn(1, dtype=DOUBLE).repeat(2)
    return Problem(model, squared, x, y, x, y, 0.0)


@pytest.mark.parametrize("inverse", [EKFAC(GGN(), damping=0.3), KFAC(GGN(), damping=0.3, damping_rule="eigenvalue")])
def test_exact_for_one_example_of_a_deep_linear_net(inverse: EKFAC | KFAC) -> None:
    problem = deep_linear()
    solver = inverse.fit(problem.objective())
    blocks = block_diagonal(solver.operator, problem.ggn())
    close(solver.operator.dense(), blocks)
    vectors = torch.randn(3, len(blocks), dtype=DOUBLE)
    close(solver.solve(vectors).x, vectors @ torch.linalg.inv(blocks + 0.3 * torch.eye(len(blocks), dtype=DOUBLE)))


def independent() -> tuple[uw.Objective, Tensor]:
    """A linear layer at 0 on all pairs of 4 inputs and 5 targets: gradients −y, independent of the inputs."""
    torch.manual_seed(6)
    x, y = torch.randn(4, 3, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE)
    model = nn.Linear(3, 2).double()
    for value in model.parameters():
        nn.init.zeros_(value)
    objective = uw.Objective(model, SquaredError(), (x.repeat_interleave(5, 0), y.repeat(4, 1)), l2=0.05)
    return objective, EmpiricalFisher().of(objective).dense()


@pytest.mark.parametrize(
    "inverse", [EKFAC(EmpiricalFisher(), damping=0.2), KFAC(EmpiricalFisher(), damping=0.2, damping_rule="eigenvalue")]
)
def test_exact_for_a_layer_with_independent_inputs_and_gradients(inverse: EKFAC | KFAC) -> None:
    objective, fisher = independent()
    vectors = torch.randn(3, objective.p, dtype=DOUBLE)
    solver = inverse.fit(objective)
    close(solver.operator.dense(), fisher)
    close(solver.solve(vectors).x, vectors @ torch.linalg.inv(fisher + 0.2 * torch.eye(objective.p, dtype=DOUBLE)))


@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher(), Fisher(samples=2, seed=3)])
@pytest.mark.parametrize("problem", [mlp, conv])
def test_ekfac_is_nearer_than_kfac_and_has_the_trace(problem: Any, curvature: Any) -> None:
    objective = problem().objective(l2=0.0)
    matrix = curvature.of(objective).dense()
    ekfac, kfac = (inverse(curvature, damping=0.1).fit(objective).operator for inverse in BOTH)
    blocks = block_diagonal(ekfac, matrix)
    assert (ekfac.dense() - blocks).norm() <= (kfac.dense() - blocks).norm() * (1 + 1e-12)
    close(ekfac.trace(), matrix.trace())
    close(ekfac.trace(), ekfac.dense().trace())
    close(kfac.trace(), kfac.dense().trace())


@settings(max_examples=5, deadline=None)
@given(size=st.integers(1, 30), inverse=st.sampled_from(BOTH), problem=st.sampled_from([mlp, conv]))
def test_the_batch_size_changes_nothing(size: int, inverse: Any, problem: Any) -> None:
    vectors = problem().query_gradients()
    whole, cut = (inverse(damping=0.1).fit(problem().objective(batch_size=b)).solve(vectors).x for b in (None, size))
    close(cut, whole, rtol=1e-7, atol=1e-9)


@settings(max_examples=4, deadline=None)
@given(order=st.permutations(range(30)), inverse=st.sampled_from(BOTH))
def test_the_order_of_examples_changes_nothing(order: list[int], inverse: Any) -> None:
    problem = mlp()
    shuffled = problem.objective(data=(problem.x[order], problem.y[order]))
    vectors = problem.query_gradients()
    x, other = (
        inverse(EmpiricalFisher(), damping=0.1).fit(o).solve(vectors).x for o in (problem.objective(), shuffled)
    )
    close(other, x, rtol=1e-7, atol=1e-9)


def test_inputs_count_once_an_example_however_many_rows_it_has() -> None:
    objective = mlp().objective()
    a = torch.cat([mlp().x, torch.ones(objective.n, 1, dtype=DOUBLE)], 1)
    for curvature in (EmpiricalFisher(), Fisher(samples=3), GGN()):
        first = next(iter(kronecker_factors(curvature.rows(objective)).values()))
        close(first.right, a.T @ a / objective.n)


def test_an_example_of_weight_two_is_two_examples() -> None:
    problem = mlp()
    weights = torch.ones(problem.n, dtype=DOUBLE)
    weights[4] = 2
    weighted = problem.objective(weights=weights)
    doubled = problem.objective(data=tuple(torch.cat([v, v[4:5]]) for v in (problem.x, problem.y)))
    first, second = (kronecker_factors(EmpiricalFisher().rows(o)) for o in (weighted, doubled))
    for shape, factors in first.items():
        close(factors.left * weighted.n, second[shape].left * doubled.n)
        close(factors.right, second[shape].right)


def test_uniform_predictions_have_a_curvature() -> None:
    objective = replace(mlp(), model=uniform()).objective(l2=0.0)
    for curvature in (Fisher(), GGN()):
        *_, last = kronecker_factors(curvature.rows(objective)).values()
        assert float(last.left.trace()) > 0.1


def uniform() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    for value in model[2].parameters():
        nn.init.zeros_(value)
    return model


@pytest.mark.parametrize("inverse", BOTH)
def test_a_multiple_of_the_mean_eigenvalue_is_exact_and_costs_no_fit(inverse: Any) -> None:
    objective = mlp().objective()
    solver = inverse(EmpiricalFisher(), damping=MeanEigenvalue(2.0)).fit(objective)
    close(solver.damping, 2 * solver.operator.dense().trace() / objective.p)
    again = solver.with_damping(0.3)
    assert again.operator is solver.operator
    vectors = mlp().query_gradients()
    close(again.solve(vectors).x, inverse(EmpiricalFisher(), damping=0.3).fit(objective).solve(vectors).x)
    assert again.damping == 0.3


def test_a_mean_leverage_is_exact_and_auto_leaves_what_the_penalty_damps() -> None:
    objective = mlp().objective(l2=1e-4)
    for inverse in BOTH:
        solver = inverse(EmpiricalFisher(), damping=MeanLeverage(0.3)).fit(objective)
        values = moments(solver.operator)
        close((values / (values + 1e-4 + solver.damping)).sum() / objective.n, 0.3, rtol=1e-3)
        close(solver.with_damping("auto").damping, 0.1 * values.sum() / objective.p - 1e-4)
        strong = inverse(EmpiricalFisher(), damping="auto").fit(mlp().objective(l2=10.0))
        assert strong.damping == 0


def test_ekfac_with_different_penalties_of_weight_and_bias() -> None:
    objective = mlp().objective(l2={"0.*": 0.3, "2.weight": 0.1})  # none on the last bias
    solver = EKFAC(EmpiricalFisher(), damping=0.02).fit(objective)
    turn = rotation(solver.operator)
    curvature = turn @ EmpiricalFisher().of(objective).dense() @ turn.T  # the penalty included
    expected = turn.T @ torch.diag(1 / (curvature.diagonal() + 0.02)) @ turn
    close(solver.solve(torch.eye(objective.p, dtype=DOUBLE)).x, expected)


def test_ekfac_without_the_penalty_is_that_of_an_objective_without_l2() -> None:
    problem = mlp()
    objective, plain = problem.objective(l2=0.1), problem.objective(l2=0.0)
    found = EKFAC(Fisher(seed=3), damping=0.01, penalized=False).fit(objective)
    expected = EKFAC(Fisher(seed=3), damping=0.01).fit(plain)
    vectors = torch.randn(3, objective.p, dtype=objective.dtype)
    close(found.solve(vectors).x, expected.solve(vectors).x)
    close(found.operator.apply(vectors), expected.operator.apply(vectors))
    close(found.operator.trace(), expected.operator.trace())
    assert "without the penalty" in found.name
    mean = expected.operator.trace() / objective.p
    close(found.with_damping("auto").damping, 1e-4 * mean)


def test_factored_damping_is_that_of_the_paper() -> None:
    objective = mlp().objective(l2=0.04)
    solver = KFAC(EmpiricalFisher(), damping=0.05).fit(objective)
    blocks = []
    for factors in kronecker_factors(EmpiricalFisher().rows(objective)).values():
        g, a = factors.left, factors.right
        pi = ((a.trace() / len(a)) / (g.trace() / len(g))).sqrt()
        damped = [side + part * torch.eye(len(side), dtype=DOUBLE) for side, part in ((g, 0.3 / pi), (a, 0.3 * pi))]
        blocks.append(torch.linalg.inv(torch.kron(*damped)).reshape(len(g), len(a), len(g), len(a)))
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    matrices = solver.operator.frame.matrices(vectors)
    solved = [torch.einsum("krc,rcst->kst", m, b) for m, b in zip(matrices, blocks, strict=True)]
    close(solver.solve(vectors).x, solver.operator.frame.vectors(solved))


def test_a_side_of_one_number_is_damped_exactly() -> None:
    one, many = torch.tensor([2.0]), torch.tensor([0.5, 3.0])
    for left, right in ((one, many), (many, one)):
        close(torch.outer(*factored_damping(left, right, 0.7)), torch.outer(left, right) + 0.7)
    flat = factored_damping(torch.zeros(2), many, 0.09)
    assert bool(torch.isfinite(torch.outer(*flat)).all())


@pytest.mark.parametrize("inverse", BOTH)
def test_queries_of_another_form_are_scored_all_the_same(inverse: Any) -> None:
    problem = mlp()
    solver = inverse(damping=0.1).fit(problem.objective())
    factors = problem.objective().engine.function.each(problem.theta, (problem.x, problem.y))
    named = problem.objective().layout.unflatten(factors.materialize())
    apart = replace(
        factors,
        blocks=tuple(
            Block(Shape(name, None, len(v[0]), v[0].numel() // len(v[0])), (Direct(v.reshape(len(v), len(v[0]), -1)),))
            for name, v in named.items()
        ),
    )
    expected = solver.solve(factors.materialize()).x @ factors.materialize().T
    close(solver.scorer(apart)(factors), expected)
    close(solver.scorer(factors)(apart), expected)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("t", [1, 2, 6, 20])
@pytest.mark.parametrize("sides", [(True, True), (True, False), (False, True), (False, False)])
def test_rotating_factors_is_rotating_gradients(t: int, sides: tuple[bool, bool], flat: bool) -> None:
    def orthogonal(d: int) -> Tensor:
        return torch.linalg.qr(torch.randn(d, d, dtype=DOUBLE))[0]

    shape = Shape("w", None, 4, 9)
    left, right = (
        orthogonal(1 if flat else 4) if sides[0] else None,
        orthogonal(36 if flat else 9) if sides[1] else None,
    )
    basis = Basis(shape, left, right, flat)
    outer = Outer(torch.randn(3, t, 4, dtype=DOUBLE), torch.randn(3, t, 9, dtype=DOUBLE))
    lookup = Lookup(torch.randint(0, 4, (3, t)), torch.randn(3, t, 9, dtype=DOUBLE), 4)
    for terms in ((outer,), (lookup,), (lookup, lookup), (outer, lookup), (Direct(outer.materialize()),)):
        block = Block(shape, terms)
        rotated = basis.term(block).materialize()
        close(rotated, basis.into(block.materialize()))
        close(basis.out_of(rotated), block.materialize())


@pytest.mark.parametrize("name", ["language model", "tied weights", "conv2d, groups", "plain parameters", "mlp"])
@pytest.mark.parametrize(("exact", "longest"), [(0, 8192), (1024, 5), (0, 5)])
def test_large_layers_have_coarser_bases_and_true_moments(
    name: str, exact: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kronecker, "EXACT", exact)
    monkeypatch.setattr(kronecker, "LONGEST_SIDE", longest)
    objective = objective_of(LAYERS[name](), l2=0.01)
    ekfac, kfac = (inverse(EmpiricalFisher(), damping=0.1).fit(objective) for inverse in BOTH)
    truth = one_by_one(objective)
    close(moments(ekfac.operator), (rotated(ekfac.operator, truth) ** 2).sum(0), atol=1e-9)
    assert all(q is None or len(q) <= longest for basis in ekfac.operator.bases for q in (basis.left, basis.right))
    assert bool((moments(kfac.operator) >= 0).all())
    assert bool(torch.isfinite(kfac.solve(truth).x).all())


@pytest.mark.parametrize("inverse", BOTH)
def test_they_precondition_cg(inverse: Any) -> None:
    problem = mlp()
    scaled = problem.objective(l2=1e-4, data=(problem.x * torch.tensor([1.0, 30.0, 0.03]), problem.y))
    vectors = problem.query_gradients()
    plain, helped = (
        CG(GGN(), damping=1e-3, preconditioner=preconditioner).fit(scaled).solve(vectors[:1])
        for preconditioner in (None, inverse(GGN()))
    )
    assert helped.report.converged
    close(helped.x, plain.x, rtol=1e-6, atol=1e-6)
    assert helped.report.iterations <= plain.report.iterations


@pytest.mark.parametrize("inverse", BOTH)
def test_a_singular_matrix_is_refused(inverse: Any) -> None:
    objective = convex("softmax", n=24).objective(l2=0.0, data=dead_feature())
    with pytest.raises(InputError, match=r"damping: the E?K-FAC .*singular in 'weight'.*give damping > 0 \(got 0\)"):
        inverse(damping=0.0).fit(objective)
    solver = inverse(damping=0.1).fit(objective)
    with pytest.raises(InputError, match="singular"):
        solver.with_damping(0.0)


def dead_feature() -> tuple[Tensor, Tensor]:
    x = convex("softmax").x.clone()
    x[:, 1] = 0
    return x, convex("softmax").y


class Root(nn.Module):
    """Infinite slope at one input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).abs().sqrt()


@pytest.mark.parametrize("inverse", BOTH)
def test_an_example_with_a_nan_gradient_is_named(inverse: Any) -> None:
    x = torch.rand(9, 2, dtype=DOUBLE) + 1
    x[5] = 0
    objective = uw.Objective(Root().double(), CrossEntropy(), (x, torch.arange(9) % 2))
    with pytest.raises(InputError, match=r"gradients: NaN or infinite for training example 5, at layer\.weight"):
        inverse(EmpiricalFisher(), damping=0.1).fit(objective)


class Changing(nn.Module):
    """Uses its weight in another operation when a batch holds a marked example."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x[:, 0] > 5).any()):
            out = (x[:, None, :] * self.first.weight).sum(-1) + self.first.bias
        else:
            out = self.first(x)
        return self.last(torch.tanh(out))


@SLOW
def test_a_parameter_that_changes_its_way_in_the_middle_of_a_pass() -> None:
    torch.manual_seed(8)
    x, y, model = torch.randn(9, 2, dtype=DOUBLE), torch.arange(9) % 2, Changing().double()
    x[6, 0] = 6.0
    objective = uw.Objective(model, CrossEntropy(), (x, y), batch_size=3, validate=False)
    solver = EKFAC(EmpiricalFisher(), damping=0.1).fit(objective)
    close(moments(solver.operator), (rotated(solver.operator, one_by_one(objective)) ** 2).sum(0))


@pytest.mark.parametrize("inverse", BOTH)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_fitted_is_refused_with_the_mend(inverse: Any) -> None:
    with pytest.raises(InputError, match="needs an objective"):
        inverse(damping=0.1).fit(Matrix(torch.eye(3)))
    with pytest.raises(InputError, match=r"curvature: give curvature.GGN\(\), Fisher\(\) or .* got Hessian"):
        inverse(Hessian(), damping=0.1).fit(mlp().objective())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("option", "value"), [("approximation", "share"), ("damping_rule", "pi")])
def test_unknown_options_of_kfac_are_refused(option: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{option}: one of"):
        KFAC(damping=0.1, **{option: value}).fit(mlp().objective())


def test_the_report_says_what_was_inverted_and_promises_nothing() -> None:
    report = KFAC(damping=0.1, approximation="reduce").fit(mlp().objective()).solve(mlp().query_gradients()).report
    assert str(report) == (
        "K-FAC (reduce) of the Fisher (1 sampled target per example), factored damping, δ=0.1: residual not measured"
    )
    assert report.converged


@pytest.mark.parametrize("inverse", BOTH)
@pytest.mark.parametrize("make", [mlp, conv])
def test_self_influence_by_factors_is_that_of_the_solution(inverse: Any, make: Any) -> None:
    problem = make()
    objective = problem.objective()
    solver = inverse(damping=0.05).fit(objective)
    factors = objective.engine.function.each(objective.params, (problem.x, problem.y))
    gradients = factors.materialize()
    close(solver.quadratic(factors), (gradients * solver.solve(gradients).x).sum(1), rtol=1e-8)
