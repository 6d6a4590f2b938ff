"""No pass waits for the device at a batch, and none takes many more operators than training on it would."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from packaging.version import parse
from torch import Tensor, nn

import upweight as uw
from counted import Counted
from upweight.curvature.kronecker import kronecker_factors
from upweight.curvature.rows import empirical, sampled
from upweight.engine.stationarity import Moments
from upweight.inverse.eigenbasis import EigenSolver
from upweight.inverse.ekfac import diagonalised
from upweight.quantities.pairs import pair_scores, self_scores

T, D, WORDS, CLASSES, ROWS = 6, 8, 11, 3, 4


class Transformer(nn.Module):
    """One block of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm, self.look = nn.Embedding(WORDS, D), nn.LayerNorm(D), nn.MultiheadAttention(D, 2)
        self.look.batch_first = True
        self.up, self.down, self.last_norm = nn.Linear(D, 2 * D), nn.Linear(2 * D, D), nn.LayerNorm(D)
        self.head = nn.Linear(D, WORDS)

    def forward(self, index: Tensor) -> Tensor:
        x = self.words(index)
        y = self.norm(x)
        x = x + self.look(y, y, y, need_weights=False)[0]
        return self.head(x + self.down(self.up(self.last_norm(x)).relu()))


def classifier() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, CLASSES))


def images() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(4 * 16, CLASSES)),
    )


def labelled(*shape: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    return lambda n: (torch.randn(n, *shape), torch.randint(0, CLASSES, (n,)))


def sequences(n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(0, WORDS, (n, T)), torch.randint(0, WORDS, (n, T))


def padded(n: int) -> tuple[Tensor, Tensor]:
    index, targets = sequences(n)
    beyond = torch.arange(T) >= 2 + torch.arange(n)[:, None] % 4
    return index.masked_fill(beyond, 0), targets.masked_fill(beyond, -100)


Examples = Callable[[int], tuple[Tensor, Tensor]]
MODELS: dict[str, tuple[Callable[[], nn.Module], Examples, Any]] = {
    "classifier": (classifier, labelled(5), uw.losses.CrossEntropy()),
    "weighted classifier": (classifier, labelled(5), uw.losses.CrossEntropy(weight=[1.0, 2.0, 0.5])),
    "images": (images, labelled(2, 6, 6), uw.losses.CrossEntropy()),
    "transformer": (Transformer, sequences, uw.losses.CrossEntropy(class_axis=-1)),
    "padded": (Transformer, padded, uw.losses.CrossEntropy(class_axis=-1)),
}


@cache
def objective(name: str, batches: int, rows: int = ROWS) -> uw.Objective:
    model, examples, loss = MODELS[name]
    torch.manual_seed(0)
    return uw.Objective(model(), loss, examples(rows * batches), l2=1e-2, batch_size=rows)


@cache
def solver(name: str) -> EigenSolver:
    return uw.inverse.EKFAC(uw.curvature.EmpiricalFisher(), damping=1e-2).fit(objective(name, 3))


def scores(objective: uw.Objective, solver: EigenSolver) -> Callable[[], Any]:
    queries = objective.engine.function.each(objective.params, objective.data.take([0, 1, 2]))
    score = solver.scorer(queries)

    def run() -> Any:
        moments = Moments(objective.params, objective.layout)
        return pair_scores(objective, score, objective.batch_size or ROWS, None, moments)

    return run


def influence(objective: uw.Objective) -> Callable[[], Any]:
    found = uw.Influence(objective, uw.inverse.EKFAC(damping=1e-2))
    queries = objective.data.take([0, 1, 2])
    return lambda: found.attribute(queries)


PASSES: dict[str, Callable[[uw.Objective, EigenSolver], Callable[[], Any]]] = {
    "losses": lambda objective, _: lambda: objective.engine.losses(objective.params),
    "gradients": lambda objective, _: lambda: list(objective.engine.each()),
    "moments": lambda objective, _: objective.engine.moments,
    "sums of layers": lambda objective, _: lambda: kronecker_factors(empirical(objective)),
    "sums of layers, drawn": lambda objective, _: lambda: kronecker_factors(sampled(objective, 1, 0)),
    "sums of layers, reduced": lambda objective, _: lambda: kronecker_factors(empirical(objective), "reduce"),
    "sums in a basis": lambda objective, solver: (
        lambda: diagonalised(empirical(objective), solver.operator.bases, "in a basis")
    ),
    "scores": scores,
    "self-influence": lambda objective, solver: lambda: self_scores(objective, solver, None),
    "GGN": lambda objective, _: lambda: uw.curvature.GGN().of(objective).apply(objective.params[None]),
    "Hessian": lambda objective, _: lambda: uw.curvature.Hessian().of(objective).apply(objective.params[None]),
}
CALLS: dict[str, Callable[[uw.Objective], Callable[[], Any]]] = {
    "K-FAC": lambda objective: lambda: uw.inverse.KFAC(damping=1e-2).fit(objective),
    "EK-FAC": lambda objective: lambda: uw.inverse.EKFAC(damping=1e-2).fit(objective),
    "attribute": influence,
}
WAITS = {
    **dict.fromkeys(PASSES, 0),
    **dict.fromkeys(("GGN", "Hessian"), 1),  # whether the product is finite
    # Rows of an example and the processor's switch, neither on a device; whether sums are finite, and which are zero.
    **dict.fromkeys((name for name in PASSES if name.startswith("sums of layers")), 4),
    "sums in a basis": 2,  # the processor's switch, and whether sums are finite
}
"""Of a whole pass, at its end."""
RATIOS = {
    "losses": 1.0,
    "gradients": 3.0,
    # The next are over 3 for images alone, where torch's backward pass of a convolution counts as one operator, and
    # patches, their products and every view of them as one each.
    "sums of layers": 3.2,  # among these: at which positions every layer has a gradient
    "sums of layers, drawn": 3.3,  # on top of these: targets drawn from a softmax
    "sums of layers, reduced": 3.5,
    "sums in a basis": 3.5,
    "moments": 3.8,
    "self-influence": 3.7,
    "scores": 4.5,  # gradients formed, multiplied by the queries' and summed with their norms, a block at a time
    "GGN": 6.5,  # the forward pass, its backward pass, and the backward passes of both, over k vectors
    "Hessian": 12.0,  # the same of a second derivative, group norm's vector by vector
}
"""Most operators for each of a plain forward and backward pass on the same batch."""
OLDER = 1.0 if parse(torch.__version__) >= parse("2.13") else 1.2
"""torch 2.7 takes more for convolutions of images than 2.13 does."""


def counted(work: Callable[[], Any]) -> Counted:
    """One run, after another."""
    work()
    with Counted() as found:
        work()
    return found


def of_training(objective: uw.Objective, rows: int = ROWS) -> int:
    """Operators of a plain forward and backward pass on one batch."""
    batch = objective.data.take(list(range(rows)))

    def work() -> None:
        torch.autograd.grad(objective.loss(objective.model, batch).sum(), list(objective.model.parameters()))

    return counted(work).operators


@cache
def of_a_pass(name: str, kind: str, batches: int, rows: int = ROWS) -> Counted:
    return counted(PASSES[kind](objective(name, batches, rows), solver(name)))


def of_a_batch(name: str, kind: str, rows: int = ROWS) -> float:
    """Operators that a pass takes for one batch more."""
    three, nine = (of_a_pass(name, kind, batches, rows).operators for batches in (3, 9))
    return (nine - three) / 6


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("name", MODELS)
def test_a_pass_waits_as_often_for_nine_batches_as_for_three(name, kind):
    three, nine = (of_a_pass(name, kind, batches) for batches in (3, 9))
    assert three.waiting == nine.waiting
    assert nine.waits <= WAITS[kind], nine.waiting


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", MODELS)
def test_a_call_waits_as_often_for_nine_batches_as_for_three(name, kind):
    three, nine = (counted(CALLS[kind](objective(name, batches))) for batches in (3, 9))
    assert three.waiting == nine.waiting


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_takes_as_many_operators_whatever_its_size(name, kind):
    assert of_a_batch(name, kind, 4) == of_a_batch(name, kind, 12)


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_takes_few_more_operators_than_training_on_it(name, kind):
    assert of_a_batch(name, kind) <= OLDER * RATIOS[kind] * of_training(objective(name, 3))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_as_factors_take_few_more_operators_than_training(name):
    found = objective(name, 3)
    batch = found.data.take(list(range(ROWS)))
    each = counted(lambda: found.engine.function.each(found.params, batch, compacted=False))
    assert each.operators <= 2 * OLDER * of_training(found)
    assert each.waits == 0


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (lambda x: float(x.sum()), "a number"),
        (lambda x: bool((x > 0).any()), "a truth"),
        (lambda x: x.sum().tolist(), "a list"),
        (lambda x: x[x > 0], "a mask"),
        (lambda x: x.nonzero(), "places"),
        (lambda x: torch.equal(x, x), "equality"),
        (lambda x: x.unique(), "unique values"),
        (lambda x: x.masked_select(x > 0), "what is selected"),
        (lambda x: torch.bincount(x.long()), "counts"),
        (lambda x: x.repeat_interleave(x.long()), "repetitions"),
    ],
)
def test_what_waits_is_seen(asked, name):
    with Counted() as found:
        asked(torch.arange(3.0))
    assert found.waits, name


def test_what_does_not_wait_is_not_seen():
    x = torch.arange(6.0)
    with Counted() as found:
        x[torch.tensor([2, 0])].repeat_interleave(2).where(torch.ones(4, dtype=torch.bool), 0.0).sum()
    assert not found.waits
