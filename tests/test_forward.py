"""A model of 16 bits that runs in them: scores near those in float32, float32 wherever numbers are added up."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from upweight.curvature import EmpiricalFisher
from upweight.gradients.factored import FactoredFunction
from upweight.gradients.terms import Direct, Outer
from upweight.inverse import CG, EKFAC, KFAC, Dense, Dual
from upweight.linalg.ranks import rank_agreement

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
CE = uw.losses.CrossEntropy()


class Tokens(nn.Module):
    """Embedding, a block of attention and a perceptron."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, width)
        self.mix = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.tokens(x)))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 4))


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.BatchNorm2d(8)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 4, 4))


def rows(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 12), torch.arange(n) % 4


def images(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 2, 6, 6), torch.arange(n) % 4


def sequences(n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(30, (n, 12)), torch.randint(30, (n, 12))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, Tensor]]]] = {
    "perceptron": (perceptron, rows),
    "transformer": (Tokens, sequences),
    "images": (convolutions, images),
}
INVERSES = {
    "EK-FAC": EKFAC(EmpiricalFisher(), damping=1e-2),
    "K-FAC": KFAC(damping=1e-2),
    "dual": Dual(EmpiricalFisher(), damping=1e-2),
}


def made(name: str, dtype: torch.dtype = torch.bfloat16, **options: Any) -> tuple[uw.Objective, tuple[Tensor, Tensor]]:
    """An objective whose model runs in its own precision, and queries."""
    build, draw = MODELS[name]
    torch.manual_seed(0)
    model, data, queries = build().eval().to(dtype), draw(60), draw(5)
    return uw.Objective(model, CE, data, **{"forward": "own", **options}), queries


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("name", ["perceptron", "transformer"])
def test_scores_have_the_order_of_those_in_float32(name: str, inverse: str, dtype: torch.dtype) -> None:
    own, queries = made(name, dtype)
    wide = own.replace(forward="float32")
    found, exact = (uw.Influence(each, INVERSES[inverse]).attribute(queries) for each in (own, wide))
    assert found.scores.dtype == torch.float32
    assert rank_agreement(found.scores, exact.scores) > 0.99
    assert not torch.equal(found.scores, exact.scores)
    kind = str(dtype).removeprefix("torch.")
    said = re.search(rf"forward pass in {kind} \(Spearman ([\d.]+) with float32, on 4 × 15 pairs\)", str(found.report))
    assert said is not None
    assert float(said[1]) > 0.99
    assert "forward pass" not in str(exact.report)


@pytest.mark.parametrize("name", MODELS)
def test_factors_and_sums_are_float32_and_the_model_is_not(name: str) -> None:
    own, _ = made(name)
    assert isinstance(own.function, FactoredFunction)
    assert not own.function.plan.slow
    assert {value.dtype for value in own.model.parameters()} == {torch.bfloat16}
    assert own.dtype == own.losses().dtype == own.outputs().dtype == own.gradient().dtype == torch.float32
    found = own.function.each(own.params, own.data.take([0, 1, 2]), compacted=False)
    terms = [term for block in found.blocks for term in block.terms]
    assert {term.values.dtype if isinstance(term, Direct) else term.right.dtype for term in terms} == {torch.float32}
    assert any(isinstance(term, Outer) for term in terms)
    wide = own.replace(forward="float32")
    exact = wide.function.each(wide.params, wide.data.take([0, 1, 2])).materialize()
    assert (found.materialize() - exact).norm() < 0.03 * exact.norm()
    assert (own.gradient() - wide.gradient()).norm() < 0.03 * wide.gradient().norm()
    assert "its forward pass in bfloat16" in repr(own)


def test_a_sum_of_gradients_has_the_digits_of_float32() -> None:
    own, _ = made("perceptron")
    each = own.function.each(own.params, own.data.take(list(range(60)))).materialize()
    assert torch.allclose(own.gradient(), each.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_batches_change_scores_by_less_than_a_digit_of_bfloat16(name: str) -> None:
    own, queries = made(name)
    few = own.replace(batch_size=7)
    found, other = (uw.Influence(each, INVERSES["EK-FAC"]).attribute(queries).scores for each in (own, few))
    assert (found - other).norm() <= 2**-8 * found.norm()


@pytest.mark.parametrize("name", MODELS)
def test_the_model_that_was_given_is_left_alone(name: str) -> None:
    build, draw = MODELS[name]
    torch.manual_seed(0)
    model = build().eval().bfloat16()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in model.modules()]
    own = uw.Objective(model, CE, draw(20), forward="own")
    uw.Influence(own, INVERSES["EK-FAC"]).attribute(draw(2))
    for each in (model, own.model):
        assert [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in each.modules()] == hooks
        assert all(torch.equal(value, before[key]) for key, value in each.state_dict().items())
        assert all(value.grad is None for value in each.parameters())


def test_a_model_of_float32_is_the_same_either_way() -> None:
    torch.manual_seed(0)
    model, data, queries = perceptron(), rows(40), rows(3)
    own, plain = (uw.Objective(model, CE, data, forward=each) for each in ("own", "float32"))
    assert torch.equal(own.losses(), plain.losses())
    found, expected = (uw.Influence(each, INVERSES["EK-FAC"]).attribute(queries) for each in (own, plain))
    assert torch.equal(found.scores, expected.scores)
    assert str(found.report) == str(expected.report)


@pytest.mark.parametrize("half", [False, True])
def test_autocast_in_the_users_loss_goes_by_factors(half: bool) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(x)
        return nn.functional.cross_entropy(outputs.float().mT, y, reduction="none").sum(1)

    torch.manual_seed(0)
    model, data, queries = Tokens().eval(), sequences(40), sequences(4)
    model = model.bfloat16() if half else model
    given = uw.Objective(model, uw.losses.Function(loss), data, forward="own")
    assert not given.function.plan.slow
    found = given.function.each(given.params, data, compacted=False)
    (block,) = (each for each in found.blocks if each.shape.weight == "mix.linear1.weight")
    assert isinstance(block.terms[0], Outer)
    assert block.dtype == torch.float32
    wide = uw.Objective(model, CE, data)
    scores, exact = (uw.Influence(each, INVERSES["EK-FAC"]).attribute(queries).scores for each in (given, wide))
    assert rank_agreement(scores, exact) > 0.99
    assert (scores - exact).norm() < 0.1 * exact.norm()


def test_norms_in_float32_amid_bfloat16_stay_what_they_are() -> None:
    class Mixed(Tokens):
        """Its last norm computes in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.last = nn.LayerNorm(32)

        def forward(self, x: Tensor) -> Tensor:
            found = self.mix(self.tokens(x))
            return self.head(self.last(found.float()).to(found.dtype))

    torch.manual_seed(0)
    model, data = Mixed().eval().bfloat16(), sequences(30)
    model.last.float()
    own = uw.Objective(model, CE, data, forward="own")
    assert {value.dtype for value in own.model.last.parameters()} == {torch.float32}
    assert own.dtype == torch.float32
    exact = uw.Objective(copy.deepcopy(model).float(), CE, data)
    queries = sequences(3)
    found, expected = (uw.Influence(each, INVERSES["EK-FAC"]).attribute(queries).scores for each in (own, exact))
    assert rank_agreement(found, expected) > 0.99
    model.tokens.double()
    with pytest.raises(uw.InputError, match=r"parameters are of torch\.bfloat16 and .* and torch\.float64"):
        uw.Objective(model, CE, data, forward="own")


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
def test_of_a_last_layer_alone_features_are_the_models_own() -> None:
    torch.manual_seed(0)
    model, data, queries = perceptron().bfloat16(), rows(60), rows(4)
    own = uw.Objective(model, CE, data, parameters="2.*", l2=0.1, forward="own")
    wide = own.replace(forward="float32")
    assert own.is_linear
    found, exact = (uw.Influence(each).attribute(queries) for each in (own, wide))
    assert rank_agreement(found.scores, exact.scores) > 0.99
    assert "forward pass in bfloat16 (Spearman" in str(found.report)


def test_parts_of_parameters_and_other_parameters_too() -> None:
    own, queries = made("perceptron")
    part = own.replace(parameters=uw.select.random(0.5, seed=0).of(own))
    assert part.dtype == torch.float32
    assert uw.Influence(part, INVERSES["dual"]).attribute(queries).scores.shape == (5, 60)
    theta = own.params + 1e-5 * torch.randn_like(own.params)
    other = own.at(theta)
    assert torch.equal(other.params, theta)
    assert {value.dtype for value in other.model.parameters()} == {torch.bfloat16}
    assert torch.equal(other.losses(), own.losses(params=theta))
    assert {value.dtype for value in own.replace(forward="float32").model.parameters()} == {torch.float32}
    assert {value.dtype for value in own.model.parameters()} == {torch.bfloat16}


def test_memory_counts_activations_as_they_are_kept() -> None:
    own, _ = made("transformer")
    wide = own.replace(forward="float32")
    assert 0.4 * wide.engine.activations < own.engine.activations < 0.8 * wide.engine.activations


@pytest.mark.parametrize("inverse", [CG(uw.curvature.GGN(), damping=0.1), CG(damping=0.1), Dense(damping=0.1)])
def test_what_differentiates_twice_is_refused_with_the_mend(inverse: Any) -> None:
    own, queries = made("transformer")
    words = r"curvature: products with the .* the model's forward pass runs in bfloat16; give .*forward='float32'\), or"
    with pytest.raises(uw.InputError, match=words):
        uw.Influence(own, inverse).attribute(queries)


def test_so_is_what_minimises() -> None:
    own, _ = made("perceptron")
    for work in (uw.retraining.fit, uw.retraining.trust_region, lambda given: uw.retraining.leave_out(given, [0])):
        with pytest.raises(uw.InputError, match=r"objective: minimising .* in bfloat16; give .*forward='float32'"):
            work(own)


class Infinite(nn.Module):
    """Its second layer's outputs are beyond float16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        with torch.no_grad():
            self.second.weight.fill_(6e4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).square() + 1))


class Steep(Infinite):
    """The slope of its second layer's output is beyond float16 where that output is tiny, and zero elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.second.weight.copy_(torch.eye(6))
            self.second.bias.zero_()
            self.last.weight.copy_(torch.eye(6)[:3] * 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.second(x) * 300 * 300).tanh())


def test_an_overflow_of_activations_names_the_layer() -> None:
    torch.manual_seed(0)
    model, data = Infinite().half(), (torch.randn(20, 6), torch.arange(20) % 3)
    with pytest.raises(
        uw.InputError,
        match=r"loss: NaN or infinite for .*; the output of 'second' is beyond 6\.55e\+04, what float16 holds: give "
        r"forward='float32'",
    ):
        uw.Objective(model, CE, data, forward="own")
    assert torch.isfinite(uw.Objective(model, CE, data).losses()).all()


BEYOND = r"the gradient at the output of 'second' is beyond 6\.55e\+04, what float16 holds: give forward='float32'"


@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("place", [0, 5])
def test_so_does_one_of_gradients(inverse: str, place: int) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 6).sign(), torch.arange(20) % 3
    x[place] = 0.0  # 0 is among the examples on which derivatives are checked, 5 is not
    queries = x[1:3], y[1:3]

    def work() -> None:
        own = uw.Objective(Steep().half(), CE, (x, y), parameters=["second.*", "last.*"], forward="own")
        uw.Influence(own, INVERSES[inverse]).attribute(queries)

    with pytest.raises(uw.InputError, match=rf"gradients: NaN or infinite for .*{BEYOND}"):
        work()


def test_so_does_one_of_a_query() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 6).sign(), torch.arange(20) % 3
    own = uw.Objective(Steep().half(), CE, (x, y), parameters=["second.*", "last.*"], forward="own")
    with pytest.raises(uw.InputError, match=rf"queries: the gradient of query 1 is NaN or infinite; .*{BEYOND}"):
        uw.Influence(own, INVERSES["EK-FAC"]).attribute((x[:2] * torch.tensor([[1.0], [0.0]]), y[:2]))
