"""Passes fit the memory that they may hold, say what one example needs, and grow smaller where a device has less."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import close
from tracked import Tracked
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.gradients.factored import FactoredFunction
from upweight.inverse import CG, EKFAC, KFAC, Dual

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")


class Tokens(nn.Module):
    """Embedding, one layer of attention and a perceptron."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, width)
        self.mix = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.tokens(x)))


def sequences(count: int, length: int = 24) -> tuple[Tensor, Tensor]:
    return torch.randint(30, (count, length)), torch.randint(30, (count, length))


def images(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 16, 16), torch.randint(5, (count,))


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))


def rows(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 200), torch.randint(10, (count,))


PROBLEMS = {
    "sequences": (Tokens, sequences, 60, 6, 2**22),
    "images": (convolutions, images, 80, 6, 2**22),
    "rows": (lambda: nn.Sequential(nn.Linear(200, 150), nn.ReLU(), nn.Linear(150, 10)), rows, 2000, 300, 2**22),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("inverse", [EKFAC, KFAC])
def test_tensors_at_the_peak_are_those_of_the_plan(name: str, inverse: type) -> None:
    build, draw, n, q, memory = PROBLEMS[name]
    torch.manual_seed(0)
    model = build().eval()
    budget = uw.Budget(memory=memory)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), draw(n), budget=budget)
    influence = uw.Influence(objective, inverse(EmpiricalFisher(), damping=1e-2))
    queries = draw(q)
    planned = influence.plan(q).peak_bytes
    with Tracked() as tracked:
        influence.attribute(queries)
    assert planned / 1.25 < tracked.peak < planned * 1.25


def planned_and_measured(inverse: Any, n: int, q: int, name: str = "rows", **options: Any) -> tuple[float, int]:
    """Bytes at the peak."""
    build, draw, *_ = PROBLEMS[name]
    torch.manual_seed(0)
    objective = uw.Objective(build().eval(), uw.losses.CrossEntropy(), draw(n), **options)
    queries, influence = draw(q), uw.Influence(objective, inverse)
    planned = influence.plan(q).peak_bytes
    with Tracked() as tracked:
        influence.attribute(queries)
    return planned, tracked.peak


@pytest.mark.parametrize(
    ("n", "q", "options"),
    [
        (2000, 30, {}),
        (6000, 500, {}),
        (2000, 300, {"budget": uw.Budget(memory=2**22)}),
        (300, 40, {"l2": 0.1}),
        (1000, 100, {"l2": {"*weight": 0.1}}),
    ],
)
def test_so_are_those_of_the_dual(n: int, q: int, options: dict[str, Any]) -> None:
    planned, peak = planned_and_measured(Dual(damping=1e-2, rows=700), n, q, **options)
    assert planned / 1.25 < peak < planned * 1.25


def test_and_those_of_the_dual_of_many_rows() -> None:
    planned, peak = planned_and_measured(Dual(damping=1e-2), 20_000, 500)
    assert planned / 1.25 < peak < planned * 1.25


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("curvature", [EmpiricalFisher(), Fisher(2)])
def test_and_of_rows_that_are_all_kept(name: str, curvature: Any) -> None:
    *_, n, q, memory = PROBLEMS[name]
    budget = uw.Budget(memory=memory)
    planned, peak = planned_and_measured(Dual(curvature, damping=1e-2), min(n, 500), q, name, budget=budget)
    assert planned / 1.25 < peak < planned * 1.25


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(("q", "memory"), [(6, 2**24), (20, 2**23)])
def test_and_those_of_conjugate_gradients(name: str, q: int, memory: int) -> None:
    *_, n, _, _ = PROBLEMS[name]
    inverse = CG(GGN(), damping=0.1, max_iterations=2)
    planned, peak = planned_and_measured(inverse, n, q, name, budget=uw.Budget(memory=memory))
    assert planned / 1.25 < peak < planned * 1.25


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("inverse", [EKFAC, KFAC])
def test_and_those_of_factors_where_memory_holds_more(name: str, inverse: type) -> None:
    *_, n, _, _ = PROBLEMS[name]
    found = inverse(EmpiricalFisher(), damping=1e-2)
    planned, peak = planned_and_measured(found, n, 30, name, budget=uw.Budget(memory=2**24))
    assert planned / 1.3 < peak < planned * 1.3


def small(memory: int | None = None) -> uw.Objective:
    torch.manual_seed(1)
    budget = None if memory is None else uw.Budget(memory=memory)
    return uw.Objective(Tokens(16).eval(), uw.losses.CrossEntropy(), sequences(20, 8), budget=budget)


def scores(objective: uw.Objective) -> Tensor:
    torch.manual_seed(2)
    return uw.Influence(objective, EKFAC(EmpiricalFisher(), damping=1e-1)).attribute(sequences(4, 8)).scores


def test_memory_changes_the_size_of_passes_and_no_result() -> None:
    whole = small()
    one = whole.engine.held * 4
    few = small(3 * one)
    assert few.engine.pass_rows == 3
    assert few.engine.rows >= 3
    assert whole.engine.pass_rows > 20
    close(scores(few), scores(whole), rtol=2e-3, atol=1e-5)


def test_memory_below_one_example_is_refused_with_what_one_needs() -> None:
    objective = small()
    need = objective.engine.held * 4
    with pytest.raises(
        uw.InputError, match=r"budget: a pass of one example holds [\d,]+ bytes here, and .* are"
    ) as said:
        scores(objective.replace(budget=uw.Budget(memory=need - 1)))
    words = re.search(r"give Budget\(memory=(\d+)\)", str(said.value))
    assert words is not None
    assert need <= int(words[1]) < 2 * need
    assert scores(objective.replace(budget=uw.Budget(memory=int(words[1])))).shape == (4, 20)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] can't allocate memory: 9"),
        MemoryError(),
    ],
)
def test_a_device_with_less_memory_gets_smaller_passes(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    expected, objective, sizes = scores(small()), small(), []
    each = FactoredFunction.each

    def limited(self: FactoredFunction, params: Any, batch: Any, *given: Any, **named: Any) -> Any:
        sizes.append(len(batch[0]))
        if len(batch[0]) > 6:
            raise copy.copy(error)
        return each(self, params, batch, *given, **named)

    monkeypatch.setattr(FactoredFunction, "each", limited)
    with pytest.warns(
        uw.SmallerPassesWarning, match=r"couldn't hold passes of [\d,]+ bytes; they are of [\d,]+ now"
    ) as said:
        found = scores(objective)
    close(found, expected, rtol=2e-3, atol=1e-5)
    assert len([each for each in said if each.category is uw.SmallerPassesWarning]) == 1  # of two halvings
    assert max(sizes[-3:]) <= 6


def test_a_device_that_holds_no_example_says_what_one_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = small()

    def never(*given: Any, **named: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FactoredFunction, "each", never)
    with (
        pytest.raises(uw.InputError, match=r"can't hold a pass of 1 example \("),
    ):
        scores(objective)


def test_other_errors_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **named: Any) -> Any:
        raise RuntimeError("something else")

    objective = small()
    monkeypatch.setattr(FactoredFunction, "each", fails)
    with pytest.raises(RuntimeError, match="something else"):
        scores(objective)


@pytest.mark.parametrize("curvature", [uw.curvature.GGN(), uw.curvature.Hessian()])
@pytest.mark.parametrize("k", [1, 12])
def test_products_with_the_curvature_fit_the_memory_too(curvature: uw.curvature.GGN, k: int) -> None:
    torch.manual_seed(0)
    memory = 2**23
    given = uw.Objective(Tokens().eval(), uw.losses.CrossEntropy(), sequences(60), budget=uw.Budget(memory=memory))
    vectors = torch.randn(k, given.p)
    operator = curvature.of(given)
    with Tracked() as tracked:
        found = operator.apply(vectors)
    held = 3 * vectors.nbytes  # the vectors' products, and those of a batch
    assert tracked.peak < held + 1.25 * memory
    close(found, curvature.of(given.replace(batch_size=60)).apply(vectors), rtol=1e-3, atol=1e-4)
