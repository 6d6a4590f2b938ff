"""What libraries of extended back-propagation compute beside a gradient, from ours: of each example and of the mean.

Individual gradients, their squared lengths, inner products, second moments and variances; diagonals of the GGN (exact,
sampled, of each example) and of the Hessian; roots of the GGN; Kronecker factors (Dangel et al. 2020, table 1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from foreign.plain import Plain, cross_entropy, drawn, seeded, squares, weights_of
from problems import close
from upweight.curvature import GGN, EmpiricalFisher, Fisher, Hessian
from upweight.curvature.kronecker import kronecker_factors
from upweight.inverse import Diagonal

pytestmark = pytest.mark.filterwarnings("ignore:.*not at an optimum")
N = 6


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(3, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


NETS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "sigmoid": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 3)), (4,)),
    "leaky, no bias": (lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.LeakyReLU(), nn.Linear(5, 3)), (4,)),
    "elu, three deep": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ELU(), nn.Linear(3, 3), nn.SELU(), nn.Linear(3, 3)),
        (3,),
    ),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 2, 2, dilation=2), nn.Tanh(), nn.Flatten(), nn.Linear(6, 3)),
        (2, 5),
    ),
    "conv2d": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 2, 2, 1), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)),
        (1, 4, 4),
    ),
    "conv2d, groups": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 2, groups=2), nn.LogSigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)
        ),
        (2, 3, 3),
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)),
        (1, 2, 3, 3),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)),
        (1, 2, 2),
    ),
    "recurrent": (Recurrent, (3, 3)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Tanh(), nn.Linear(6, 3)), None),
}
CASES = [(name, compare, weighted) for name in NETS for compare, weighted in ((cross_entropy, False), (squares, True))]
every = pytest.mark.parametrize(
    ("name", "compare", "weighted"), CASES, ids=[f"{name}, {compare.__name__}" for name, compare, _ in CASES]
)


@cache
def problem(name: str, compare: Any, weighted: bool) -> Plain:
    make, shape = NETS[name]
    x = drawn(1, N, *shape) if shape is not None else torch.arange(2 * N).reshape(N, 2) * 3 % 5
    y = drawn(2, N, 3) if compare is squares else torch.arange(N) % 3
    return Plain(seeded(0, make), compare, x, y, 0.03, weights_of(N) if weighted else None)


@cache
def objective(name: str, compare: Any, weighted: bool) -> uw.Objective:
    return problem(name, compare, weighted).objective(batch_size=4)


@cache
def gradients(name: str, compare: Any, weighted: bool) -> Tensor:
    return problem(name, compare, weighted).gradients()


def weights(given: Plain) -> Tensor:
    return given.counts * given.n


@every
def test_individual_gradients_and_what_is_made_of_them(name: str, compare: Any, weighted: bool) -> None:
    given, ours, own = (each(name, compare, weighted) for each in (problem, objective, gradients))
    w = weights(given)[:, None]
    close(torch.cat([block for _, block in ours.example_gradients()]), w * own)
    squared = uw.TracIn(ours, [ours.params], 1.0).self_influence().scores
    close(squared, w[:, 0] * (own**2).sum(1))
    products = uw.similarity.gradient_dot(ours, (given.x, given.y)).scores
    close(products, own @ (w * own).T)
    norms = own.norm(dim=1)
    close(uw.similarity.gradient_cosine(ours, (given.x, given.y)).scores, own @ own.T / torch.outer(norms, norms))
    second = given.counts @ own**2
    close(Diagonal(EmpiricalFisher(), damping=0.1).fit(ours).operator.dense().diagonal() - 0.03, second)
    mean = ours.gradient() - 0.03 * ours.params
    close(mean, given.counts @ own)
    if not weighted:
        variance = Diagonal(EmpiricalFisher(), damping=0.1).fit(ours).operator.dense().diagonal() - 0.03 - mean**2
        close(variance, own.var(0, unbiased=False))


@every
def test_diagonals_of_the_ggn_and_of_the_hessian(name: str, compare: Any, weighted: bool) -> None:
    given, ours = problem(name, compare, weighted), objective(name, compare, weighted)
    parts = given.example_ggns()
    whole = torch.einsum("n,npq->pq", given.counts, parts)
    diagonal = Diagonal(GGN(), damping=0.1).fit(ours).operator
    close(diagonal.dense(), torch.diag(whole.diagonal() + 0.03))
    close(diagonal.trace(), whole.trace() + 0.03 * ours.p)
    close(Hessian().of(ours).dense().diagonal(), given.hessian().diagonal(), atol=1e-10)
    for i in (0, N - 1):
        close(GGN().of(ours).share([i]).dense().diagonal(), given.counts[i] * parts[i].diagonal())


@every
def test_roots_of_the_ggn_and_products_with_it(name: str, compare: Any, weighted: bool) -> None:
    given, ours = problem(name, compare, weighted), objective(name, compare, weighted)
    whole = given.ggn()
    rows = torch.cat([factors.materialize() for _, factors in GGN().rows(ours).blocks(5)])
    close(rows.T @ rows + 0.03 * torch.eye(ours.p, dtype=rows.dtype), whole, atol=1e-10)
    vectors = drawn(3, 4, ours.p)
    close(GGN().of(ours).apply(vectors), vectors @ whole, atol=1e-10)
    close(Hessian().of(ours).apply(vectors), vectors @ given.hessian(), atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "sigmoid", "conv2d", "recurrent", "embedding"])
@pytest.mark.parametrize("compare", [cross_entropy, squares])
def test_sampled_diagonals_are_near_the_exact_one(name: str, compare: Any) -> None:
    """The mean over targets drawn from the model: its error is that of a mean of so many samples."""
    given = problem(name, compare, False)
    ours, samples = given.objective(), 300
    found = Diagonal(Fisher(samples, seed=4), damping=0.1).fit(ours).operator.dense().diagonal() - 0.03
    exact = given.ggn().diagonal() - 0.03
    assert float((found - exact).norm() / exact.norm()) < 10 / (samples * N) ** 0.5


@pytest.mark.parametrize("compare", [cross_entropy, squares])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["sigmoid", "leaky, no bias", "elu, three deep"])
def test_factors_of_linear_layers_are_exact_output_curvatures_and_input_moments(
    name: str, weighted: bool, compare: Any
) -> None:
    """KFLR (Botev et al. 2017): left = mean of (∂f/∂h)ᵀΛ(∂f/∂h) at the layer's outputs h, right = mean of a aᵀ."""
    given, ours = problem(name, compare, weighted), objective(name, compare, weighted)
    assert isinstance(given.model, nn.Sequential)
    found = kronecker_factors(GGN().rows(ours))
    middle = given.output_hessians()
    layers = [k for k, part in enumerate(given.model) if isinstance(part, nn.Linear)]
    assert len(found) == len(layers)
    share = given.counts / given.counts.sum()
    for place, (shape, factors) in zip(layers, found.items(), strict=True):
        assert shape.weight == f"{place}.weight"
        a = given.model[:place](given.x).detach()
        a = a if given.model[place].bias is None else torch.cat([a, a.new_ones(N, 1)], 1)
        h = given.model[: place + 1](given.x).detach()
        back = torch.stack([torch.func.jacrev(lambda at, k=place: given.model[k + 1 :](at))(row) for row in h])
        left = torch.einsum("n,nch,ncd,ndk->hk", given.counts, back, middle, back)
        close(torch.kron(factors.left, factors.right), torch.kron(left, (share[:, None] * a).T @ a))


@pytest.mark.parametrize("widths", [(3, 4, 2), (2, 3, 3, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_recursion_over_layers_gives_the_same_factors_without_nonlinearities(
    widths: tuple[int, ...], weighted: bool
) -> None:
    """KFRA (Botev et al. 2017, eq. 13): G of a layer is WᵀGW of the layer above."""
    model = seeded(7, lambda: nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths))))
    x, y = drawn(8, N, widths[0]), torch.arange(N) % widths[-1]
    given = Plain(model, cross_entropy, x, y, 0.0, weights_of(N) if weighted else None)
    found = list(kronecker_factors(GGN().rows(given.objective())).values())
    assert isinstance(model, nn.Sequential)
    curvature = torch.einsum("n,ncd->cd", given.counts, given.output_hessians())
    for place in reversed(range(len(model))):
        close(found[place].left, curvature)
        weight = model[place].weight.detach()
        curvature = weight.T @ curvature @ weight
