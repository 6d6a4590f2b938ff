"""Gradients of every layer equal plain differentiation, one example at a time (spec: oracle 24)."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

import upweight as uw
from gradients.layers import LAYERS, Example, N, words
from problems import close
from upweight.errors import InputError, SlowPathWarning
from upweight.gradients import FactoredFunction
from upweight.gradients.blocks import concatenated
from upweight.gradients.terms import Direct, Lookup, Outer, gram
from upweight.losses import CrossEntropy
from upweight.parameters import select

DOUBLE = torch.float64


def made(name: str, dtype: torch.dtype = DOUBLE) -> tuple[Example, FactoredFunction, Tensor]:
    example = LAYERS[name]()
    model = example.model.eval().to(dtype)
    x = example.x.to(dtype) if example.x.is_floating_point() else example.x
    example = Example(model, x, example.y, example.slow, example.unused)
    layout = select(model, None)
    params = layout.flatten(dict(model.named_parameters())).detach().clone()
    function = FactoredFunction(model, CrossEntropy(), layout, params, (x[:3], example.y[:3]))
    return example, function, params


def one_by_one(example: Example, function: FactoredFunction, cotangents: Tensor | None = None) -> Tensor:
    """The gradient of each example, alone in its batch: nothing of the package but the order of θ."""
    rows = []
    for i in range(N):
        named = {name: v.detach().requires_grad_() for name, v in example.model.named_parameters()}
        out = functional_call(example.model, named, (example.x[i : i + 1],))
        if cotangents is None:
            targets = example.y[i : i + 1]
            value = (out.logsumexp(-1) - out.gather(-1, targets.unsqueeze(-1)).squeeze(-1)).sum()
        else:
            value = (out * cotangents[i : i + 1]).sum()
        chosen = [named[name] for name in function.layout.names]
        found = torch.autograd.grad(value, chosen, allow_unused=True)
        rows.append(torch.cat([torch.zeros(v.numel()) if g is None else g.flatten() for g, v in zip(found, chosen)]))  # noqa: B905
    return torch.stack(rows)


@pytest.mark.parametrize("name", LAYERS)
def test_factors_are_the_gradients_of_each_example_alone(name: str) -> None:
    example, function, params = made(name)
    truth = one_by_one(example, function)
    batch = (example.x, example.y)
    assert tuple(sorted(function.plan.slow)) == tuple(sorted(example.slow))
    assert function.plan.unused == example.unused
    vectors, weights = torch.randn(4, function.layout.p, dtype=DOUBLE), torch.randn(4, N, dtype=DOUBLE)
    for compacted in (True, False):
        factors = function.each(params, batch, compacted=compacted)
        few = function.each(params, (example.x[2:6], example.y[2:6]), compacted=compacted)
        close(factors.materialize(), truth)
        close(factors.inner(vectors), vectors @ truth.T)
        close(factors.combine(weights), weights @ truth)
        close(factors.gram(few), truth @ truth[2:6].T)
        close(factors.norms(), (truth**2).sum(1))


@pytest.mark.parametrize("name", ["mlp", "language model", "conv2d", "attention, sequence first"])
def test_rows_are_products_of_cotangents_with_the_jacobian(name: str) -> None:
    example, function, params = made(name)
    outputs = function.outputs_of(params, (example.x, example.y))
    cotangents = torch.randn_like(outputs)
    rows = function.each(params, (example.x, example.y), cotangents).materialize()
    close(rows, one_by_one(example, function, cotangents))


@pytest.mark.parametrize("name", ["mlp", "language model", "group norm", "LSTM", "attention, batch first"])
def test_single_precision_is_near_double(name: str) -> None:
    example, single, params = made(name, torch.float32)
    found = single.each(params, (example.x, example.y)).materialize()
    double = Example(example.model.to(DOUBLE), example.x.to(DOUBLE) if example.x.is_floating_point() else example.x,
                     example.y)  # fmt: skip
    close(found.double(), one_by_one(double, single), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def three() -> list[tuple[Example, FactoredFunction, Tensor]]:
    return [made(name) for name in ("language model", "LSTM", "conv2d")]


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(N)), st.integers(1, N))
def test_order_and_batches_of_examples_change_nothing(three: Any, order: list[int], size: int) -> None:
    for example, function, params in three:
        whole = function.each(params, (example.x, example.y))
        index = torch.tensor(order)
        parts = [function.each(params, (example.x[i], example.y[i])) for i in index.split(size)]
        joined = concatenated(parts)
        close(joined.materialize(), whole.materialize()[index])
        close(joined.gram(whole), whole.gram(whole)[index])


def test_sequences_of_other_lengths_than_the_first_batch_are_read_too() -> None:
    for name in ("LSTM", "attention, sequence first", "language model"):
        example, function, params = made(name)
        shorter = Example(example.model, example.x[:, :3], example.y if example.y.dim() == 1 else example.y[:, :3])
        close(function.each(params, (shorter.x, shorter.y)).materialize(), one_by_one(shorter, function))


def test_a_parameter_whose_operation_changes_form_goes_the_slow_way() -> None:
    class Switch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(11, 6), nn.Linear(6, 3)

        def forward(self, index: Tensor) -> Tensor:
            rows = self.table(index) if index.shape[1] < 6 else self.table.weight.softmax(0)[index]
            return self.head(rows.mean(1))

    example = words(Switch())
    model = example.model.to(DOUBLE)
    layout = select(model, None)
    params = layout.flatten(dict(model.named_parameters())).detach()
    function = FactoredFunction(model, CrossEntropy(), layout, params, (example.x[:3, :4], example.y[:3]))
    assert not function.plan.slow
    with pytest.warns(SlowPathWarning, match=r"in some batches the rows of table\.weight are not each one"):
        found = function.each(params, (example.x, example.y)).materialize()
    close(found, one_by_one(example, function))
    assert not function.plan.slow  # of that batch alone; the plan is as it was


def test_slow_parameters_are_said_with_their_share_and_the_coverage_is_whole() -> None:
    example = LAYERS["PReLU, which has no rule"]()
    with pytest.warns(SlowPathWarning, match=r"1 parameters, .*1\.weight: no rule for Prelu"):
        objective = uw.Objective(example.model.eval(), CrossEntropy(), (example.x, example.y))
    report = objective.coverage()
    assert report.attributed == 1.0
    assert 0 < report.parameters("slow") < 0.05
    assert "slow: 1.weight" in str(report)


def test_coverage_counts_what_is_left_out() -> None:
    example = LAYERS["LoRA"]()
    objective = uw.Objective(example.model.eval(), CrossEntropy(), (example.x, example.y), parameters=["head.*"])
    report = objective.coverage()
    total = sum(value.numel() for value in example.model.parameters())
    assert report.parameters("left out") == pytest.approx(1 - 27 / total)
    named = {name: v.detach().requires_grad_() for name, v in example.model.named_parameters()}
    mean = CrossEntropy().of_outputs(functional_call(example.model, named, (example.x,)), (example.x, example.y)).mean()
    norms = {n: float(g.norm() ** 2) for n, g in zip(named, torch.autograd.grad(mean, list(named.values())))}  # noqa: B905
    assert report.attributed == pytest.approx(
        (norms["head.weight"] + norms["head.bias"]) / sum(norms.values()), rel=1e-5
    )
    assert "left out: base.weight (64; frozen)" in str(report)


def test_the_model_comes_back_as_it_was_also_after_an_exception() -> None:
    example = LAYERS["language model"]()
    model = example.model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective = uw.Objective(model, CrossEntropy(), (example.x, example.y))
    with pytest.raises(IndexError):
        objective.engine.function.each(objective.params, (example.x + 100, example.y))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())


def test_reentrant_checkpoints_hide_parameters_and_are_refused() -> None:
    from torch.utils.checkpoint import checkpoint

    class Reentrant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(checkpoint(self.first, x.detach().requires_grad_(), use_reentrant=True))

    batch = (torch.randn(6, 8), torch.randint(0, 3, (6,)))
    with pytest.raises(InputError, match="use_reentrant=False"):
        uw.Objective(Reentrant(), CrossEntropy(), batch)


@pytest.mark.parametrize(
    ("first", "second"),
    [(a, b) for a in ("outer", "lookup", "direct") for b in ("outer", "lookup", "direct")],
)
def test_products_of_different_forms_of_a_parameter_agree(first: str, second: str) -> None:
    def term(form: str, count: int, positions: int) -> Any:
        if form == "outer":
            return Outer(torch.randn(count, positions, 5, dtype=DOUBLE), torch.randn(count, positions, 3, dtype=DOUBLE))
        if form == "lookup":
            return Lookup(torch.randint(0, 5, (count, positions)), torch.randn(count, positions, 3, dtype=DOUBLE), 5)
        return Direct(torch.randn(count, 5, 3, dtype=DOUBLE))

    one, other = term(first, 4, 2), term(second, 6, 3)
    close(gram(one, other), torch.einsum("arc,brc->ab", one.materialize(), other.materialize()))


def test_large_and_small_positions_take_every_contraction() -> None:
    for positions, rows, columns in ((1, 4, 6), (2, 20, 30), (40, 2, 3)):
        term = Outer(torch.randn(5, positions, rows, dtype=DOUBLE), torch.randn(5, positions, columns, dtype=DOUBLE))
        whole = torch.einsum("btr,btc->brc", term.left, term.right)
        for k in (1, 7):
            matrices, weights = torch.randn(k, rows, columns, dtype=DOUBLE), torch.randn(k, 5, dtype=DOUBLE)
            close(term.inner(matrices), torch.einsum("krc,brc->kb", matrices, whole))
            close(term.combine(weights), torch.einsum("kb,brc->krc", weights, whole))
        close(term.norms(), (whole**2).sum((1, 2)))
        close(term.squares(), (whole**2).sum(0))
        close(gram(term, term.take(slice(1, 4))), torch.einsum("arc,brc->ab", whole, whole[1:4]))


def test_a_module_under_two_names_is_differentiated_and_left_as_it_was() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
            self.again = self.layer

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.again(torch.tanh(self.layer(x)))))

    model = Twice().to(DOUBLE)
    weight = model.layer.weight
    x, y = torch.randn(N, 8, dtype=DOUBLE), torch.randint(0, 3, (N,))
    rows = []
    for value in CrossEntropy()(model, (x, y)):
        grads = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    objective = uw.Objective(model, CrossEntropy(), (x, y))
    close(objective.engine.function.each(objective.params, (x, y)).materialize(), torch.stack(rows))
    objective.gradient()
    assert model.layer.weight is weight
    assert model.again.weight is weight
    assert isinstance(weight, nn.Parameter)


def test_no_warning_where_everything_has_a_rule() -> None:
    example = LAYERS["attention, batch first"]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uw.Objective(example.model.eval(), CrossEntropy(), (example.x, example.y))
