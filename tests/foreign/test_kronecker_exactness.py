"""Networks on which K-FAC is no approximation, and what K-FAC and EK-FAC are where it is one.

In a network without nonlinearities the gradients of squared error that come back to a layer don't depend on its input,
so the layer's GGN is the Kronecker product itself (Bernacchia et al. 2018); with weights shared over positions, by
``expand`` where each position has a loss of its own and by ``reduce`` where positions are averaged (Eschenhagen et al.
2023, propositions 1 and 2). Of a single example of one position every block is one product, whatever the network.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from foreign.plain import Plain, cross_entropy, drawn, seeded, squares, weights_of
from problems import DOUBLE, close
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.inverse import EKFAC, KFAC

pytestmark = pytest.mark.filterwarnings("ignore:.*not at an optimum")


def deep(widths: tuple[int, ...], bias: bool, between: type[nn.Module] = nn.Identity) -> nn.Module:
    parts: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        parts += [nn.Linear(inside, outside, bias=bias), between()]
    return nn.Sequential(*parts[:-1])


def kinds(curvature: Any = None, **options: Any) -> list[Any]:
    curvature = GGN() if curvature is None else curvature
    return [
        KFAC(curvature, damping=0.3, **options),
        KFAC(curvature, damping=0.3, damping_rule="eigenvalue", **options),
        EKFAC(curvature, damping=0.3, **options),
    ]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(3, 2), (4, 3, 2), (2, 5, 3, 2), (3, 1, 4)])
def test_deep_linear_networks_have_their_ggn(widths: tuple[int, ...], bias: bool, weighted: bool) -> None:
    n, model = 7, seeded(1, lambda: deep(widths, bias))
    problem = Plain(
        model, squares, drawn(2, n, widths[0]), drawn(3, n, widths[-1]), 0.02, weights_of(n) if weighted else None
    )
    wanted = problem.by_layer(problem.ggn())
    for inverse in kinds():
        solver = inverse.fit(problem.objective())
        close(solver.operator.dense(), wanted)
        close(solver.operator.trace(), wanted.trace())
    vectors = drawn(4, 3, len(wanted))
    for solver in (KFAC(GGN(), damping=0.3, damping_rule="eigenvalue"), EKFAC(GGN(), damping=0.3)):
        found = solver.fit(problem.objective()).solve(vectors).x
        close(found, torch.linalg.solve(wanted + 0.3 * torch.eye(len(wanted), dtype=DOUBLE), vectors.T).T)


@pytest.mark.parametrize("chosen", ["*weight", "*bias", "2.*"])
def test_of_chosen_parameters_it_is_the_part_of_the_ggn(chosen: str) -> None:
    model = seeded(5, lambda: deep((3, 4, 2), True))
    problem = Plain(model, squares, drawn(6, 9, 3), drawn(7, 9, 2), 0.1)
    objective = problem.objective(parameters=[chosen])
    names = [name for name, _ in model.named_parameters()]
    kept = torch.cat(
        [torch.full((value.numel(),), name in objective.layout.names) for name, value in model.named_parameters()]
    )
    assert 0 < len(objective.layout.names) < len(names)
    wanted = problem.by_layer(problem.ggn())[kept][:, kept]
    for inverse in kinds():
        close(inverse.fit(objective).operator.dense(), wanted)


class Shared(nn.Module):
    """Linear layers at every position; then one output for each position, or their mean."""

    def __init__(self, pooled: bool, bias: bool):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, bias=bias), nn.Linear(4, 2, bias=bias)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(self.first(x))
        return h.mean(1) if self.pooled else h


class Pixels(nn.Module):
    """A convolution of which every pixel is an output, or their mean goes to a linear layer."""

    def __init__(self, pooled: bool, bias: bool):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2, bias=bias)
        self.head = nn.Linear(3, 2, bias=bias) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return h if self.head is None else self.head(h.mean((2, 3)))


@pytest.mark.parametrize("inputs", ["active", "all"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
@pytest.mark.parametrize("kind", [Shared, Pixels])
@pytest.mark.parametrize("weighted", [False, True])
def test_shared_weights_are_exact_where_their_positions_fit(
    kind: Any, approximation: str, bias: bool, inputs: str, weighted: bool
) -> None:
    n, pooled = 6, approximation == "reduce"
    model = seeded(8, lambda: kind(pooled, bias))
    x = drawn(9, n, 5, 3) if kind is Shared else drawn(9, n, 2, 4, 3)
    y = drawn(10, *model(x).shape)
    problem = Plain(model, squares, x, y, 0.05, weights_of(n) if weighted else None)
    wanted = problem.by_layer(problem.ggn())
    for inverse in kinds(approximation=approximation, inputs=inputs):
        close(inverse.fit(problem.objective()).operator.dense(), wanted)
    if not pooled and inputs == "active":
        return  # every row of the GGN has a gradient at one position, whose input is its mean
    other = "expand" if pooled else "reduce"
    apart = KFAC(GGN(), damping=0.3, approximation=other, inputs=inputs).fit(problem.objective()).operator.dense()
    assert float((apart - wanted).norm() / wanted.norm()) > 0.05


@pytest.mark.parametrize(
    "curvature", [GGN(), Fisher(3, seed=2), EmpiricalFisher()], ids=["ggn", "sampled", "empirical"]
)
@pytest.mark.parametrize("between", [nn.Tanh, nn.ReLU, nn.Sigmoid])
@pytest.mark.parametrize("loss", ["softmax", "logistic", "squares"])
def test_one_example_is_exact_in_any_network(loss: str, between: type[nn.Module], curvature: Any) -> None:
    model = seeded(11, lambda: deep((3, 4, 1 if loss == "logistic" else 3), True, between))
    x, label = drawn(12, 1, 3), torch.tensor([1])
    losses = {"softmax": uw.losses.CrossEntropy(), "logistic": uw.losses.BinaryLogistic()}
    if loss == "squares":
        problem = Plain(model, squares, x, drawn(13, 1, 3))
        objective = problem.objective()
    else:
        problem = Plain(model, cross_entropy, x, label)
        objective = uw.Objective(model, losses[loss], (x, label))
    if curvature == GGN() and loss != "logistic":
        wanted = problem.ggn()
    elif curvature == EmpiricalFisher() and loss != "logistic":
        (own,) = problem.gradients()
        wanted = torch.outer(own, own)
    else:
        wanted = curvature.of(objective).dense()
    for inverse in kinds(curvature):
        close(inverse.fit(objective).operator.dense(), problem.by_layer(wanted))


class Positions(nn.Module):
    """A layer at every position, of which a ReLU switches some off."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(x)))


def sides(model: Positions, x: Tensor, y: Tensor, curvature: Any, counts: Tensor, approximation: str) -> Tensor:
    """Σ w g gᵀ ⊗ mean of a aᵀ of the first layer, over all positions, from its outputs' Jacobian alone."""
    left, right = torch.zeros(4, 4, dtype=DOUBLE), torch.zeros(3, 3, dtype=DOUBLE)
    for x_i, y_i, count in zip(x, y, counts, strict=True):

        def value(h: Tensor, target: Tensor = y_i) -> Tensor:
            return cross_entropy(model.head(torch.relu(h))[None], target[None])[0]

        h = model.layer(x_i).detach()
        jacobian = torch.func.jacrev(lambda at: model.head(torch.relu(at)).flatten())(h)
        jacobian = jacobian if approximation == "expand" else jacobian.sum(1, keepdim=True)
        if isinstance(curvature, GGN):
            p = model.head(torch.relu(h)).softmax(-1)
            middle = torch.block_diag(*(torch.diag(row) - torch.outer(row, row) for row in p))
            left += count * torch.einsum("ctr,cd,dts->rs", jacobian, middle, jacobian)
        else:
            slope = torch.func.grad(value)(h)
            slope = slope if approximation == "expand" else slope.sum(0, keepdim=True)
            left += count * slope.T @ slope
        a = x_i if approximation == "expand" else x_i.mean(0, keepdim=True)
        right += count * a.T @ a / len(a)
    return torch.kron(left, right / counts.sum()).detach()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher()], ids=["ggn", "empirical"])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_positions_count_as_in_the_definition(
    seed: int, curvature: Any, approximation: Any, weighted: bool
) -> None:
    """Eschenhagen et al. (2023, eqs. 19 and 22): the mean of a aᵀ is over all inputs, with a gradient or without."""
    n, model = 6, seeded(seed, Positions)
    x, y = drawn(seed + 20, n, 4, 3), torch.arange(n * 4).reshape(n, 4) % 3
    problem = Plain(model, cross_entropy, x, y, 0.0, weights_of(n) if weighted else None)
    inverse = KFAC(curvature, damping=0.3, approximation=approximation, inputs="all")
    found = inverse.fit(problem.objective()).operator.dense()[:12, :12]
    assert isinstance(model, Positions)
    close(found, sides(model, x, y, curvature, problem.counts, approximation))


NETS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "tanh": (lambda: deep((3, 4, 3), True, nn.Tanh), (3,), cross_entropy),
    "relu without bias": (lambda: deep((3, 5, 3), False, nn.ReLU), (3,), squares),
    "three layers": (lambda: deep((4, 3, 3, 3), True, nn.Sigmoid), (4,), cross_entropy),
    "positions": (Positions, (4, 3), cross_entropy),
    "pixels": (lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)), (1, 3, 3), squares),
}


@pytest.mark.parametrize("approximation", ["expand", "reduce"])
@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher()], ids=["ggn", "empirical"])
@pytest.mark.parametrize("net", NETS)
def test_ekfac_has_the_trace_and_is_nearest_in_its_basis(net: str, curvature: Any, approximation: Any) -> None:
    """George et al. (2018, proposition 1): what is left of B is orthogonal to all matrices diagonal in the basis.

    The powers of E = EK-FAC are such matrices, whatever eigenvectors span the spaces of equal eigenvalues.
    """
    make, shape, compare = NETS[net]
    model, n = seeded(3, make), 9
    x = drawn(4, n, *shape)
    out = model(x).detach()
    y = drawn(5, *out.shape) if compare is squares else torch.arange(out[..., 0].numel()).reshape(out.shape[:-1]) % 3
    problem = Plain(model, compare, x, y, 0.01, weights_of(n))
    objective = problem.objective()
    if isinstance(curvature, GGN):
        whole = problem.ggn()
    else:
        own = problem.gradients()
        whole = (problem.counts[:, None] * own).T @ own + 0.01 * torch.eye(len(problem.theta), dtype=DOUBLE)
    block = problem.by_layer(whole)
    ekfac = EKFAC(curvature, damping=0.3, approximation=approximation).fit(objective).operator.dense()
    kfac = KFAC(curvature, damping=0.3, approximation=approximation).fit(objective).operator.dense()
    close(ekfac.trace(), whole.trace())
    power = torch.eye(len(block), dtype=DOUBLE)
    for _ in range(4):
        close(((block - ekfac) * power).sum(), torch.tensor(0.0), atol=1e-9 * float(power.norm() * block.norm()))
        power = power @ ekfac / ekfac.norm()
    assert float((block - ekfac).norm()) <= float((block - kfac).norm()) * (1 + 1e-12)
