"""What is found in a graph is kept for graphs of the same form, and for no others."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.gradients import factored
from upweight.gradients.form import MOST, Forms, walked

T, D, CLASSES = 4, 3, 2


class Sequences(nn.Module):
    """Rows of a sequence through a layer, summed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(D, 5), nn.LayerNorm(5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x).tanh()).sum(1))


class EitherWay(Sequences):
    """The same, with time first where it is told so: as many examples as steps have the same shapes."""

    time_first = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.time_first:
            return super().forward(x)
        return self.last(self.norm(self.first(x.transpose(0, 1).contiguous()).tanh()).sum(0))


class LastPlace(Sequences):
    """The last row that is there, by its number: whose it is hangs on the numbers."""

    def forward(self, x: Tensor) -> Tensor:
        last = (x != 0).any(2).sum(1) - 1
        return self.last(self.norm(self.first(x).tanh())[torch.arange(len(x)), last])


def examples(n: int, length: int = T) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * 100 + length)
    x = torch.randn(n, length, D, dtype=DOUBLE, generator=generator)
    return x, torch.randint(0, CLASSES, (n,), generator=generator)


def function(model: nn.Module) -> tuple[factored.FactoredFunction, Tensor]:
    objective = uw.Objective(model.to(DOUBLE), uw.losses.CrossEntropy(), examples(6), l2=0.1)
    found = objective.engine.function
    assert isinstance(found, factored.FactoredFunction)
    return found, objective.params


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of examples in the batches whose graphs were looked through."""
    seen: list[int] = []
    whole = factored.traced

    def watched(root: Tensor, count: int, answers: Any = None) -> Any:
        seen.append(count)
        return whole(root, count, answers)

    monkeypatch.setattr(factored, "traced", watched)
    return seen


def assert_right(own: factored.FactoredFunction, params: Tensor, batch: tuple[Tensor, Tensor]) -> None:
    truth = own.one_by_one(params, batch, None, list(own.layout.names))
    expected = torch.cat([value.flatten(1) for value in truth.values()], dim=1)
    close(own.each(params, batch).materialize(), expected, 1e-9)


def test_a_graph_is_looked_through_once_for_all_batches_of_its_form(walks):
    own, params = function(Sequences())
    walks.clear()
    for _ in range(3):
        for n in (4, 7):
            assert_right(own, params, examples(n))
    assert walks == [4, 7]


def test_a_batch_of_other_lengths_is_looked_through_anew(walks):
    own, params = function(Sequences())
    walks.clear()
    for length in (2, 3, 2, 3, 5):
        assert_right(own, params, examples(4, length))
    assert walks == [4, 4, 4]


def test_a_batch_of_one_has_a_form_too(walks):
    own, params = function(Sequences())
    walks.clear()
    for _ in range(2):
        assert_right(own, params, examples(1))
        assert_right(own, params, examples(2))
    assert walks == [2]


def test_the_same_shapes_in_another_order_of_dimensions_are_another_form():
    own, params = function(EitherWay())
    for time_first in (False, True, False, True):
        EitherWay.time_first = time_first
        try:
            assert_right(own, params, examples(T))
        finally:
            EitherWay.time_first = False


def test_what_hangs_on_numbers_is_looked_at_in_every_batch(walks):
    own, params = function(LastPlace())
    walks.clear()
    for _ in range(3):
        assert_right(own, params, examples(5))
    assert walks == [5, 5, 5]


def test_so_many_forms_are_kept_and_no_more():
    own, params = function(Sequences())
    for length in range(1, MOST + 6):
        own.each(params, examples(3, length))
    assert len(own._forms._kept) == MOST


def test_another_use_of_the_same_parameters_is_another_form():
    first, second = (torch.ones(3, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    leaves = {"first": first, "second": second}
    keys = [walked((a * b).tanh(), leaves)[1] for a, b in ((first, second), (second, first), (first, first))]
    assert len(set(keys)) == 3
    assert walked((first * second).tanh(), leaves)[1] == keys[0]


def test_values_without_parameters_have_a_form():
    nodes, key = walked(torch.ones(2), {})
    assert nodes == []
    assert Forms().known(key, nodes) is None


def test_nothing_that_is_kept_holds_a_tensor_or_a_graph():
    own, params = function(Sequences())
    own.each(params, examples(4))
    stack, seen, held = [own._forms._kept], set[int](), 0
    while stack:
        for thing in gc.get_referents(stack.pop()):
            if id(thing) in seen or isinstance(thing, type):
                continue
            seen.add(id(thing))
            held += 1
            assert not isinstance(thing, Tensor)
            assert not hasattr(thing, "next_functions")
            stack.append(thing)
    assert held


def test_a_model_whose_graph_changes_with_every_batch_is_told_once() -> None:
    class Longer(nn.Module):
        """Its graph is longer by one operation each time."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.calls = nn.Linear(3, 2), [0]

        def forward(self, x: Tensor) -> Tensor:
            out = torch.tanh(self.body(x))
            self.calls[0] += torch.is_grad_enabled()
            for _ in range(self.calls[0]):
                out = out * 1.0
            return out

    torch.manual_seed(0)
    data = torch.randn(140, 3), torch.arange(140) % 2
    objective = uw.Objective(Longer(), uw.losses.CrossEntropy(), data, batch_size=2, validate=False)
    function, batch = objective.engine.function, objective.data.take([0, 1])

    def passes() -> None:
        for _ in range(70):
            function.each(objective.params, batch)

    with pytest.warns(uw.SlowPathWarning, match=r"\d+ of the first 64 batches had a graph of a form") as said:
        passes()
    assert len([each for each in said if "form of their own" in str(each.message)]) == 1
