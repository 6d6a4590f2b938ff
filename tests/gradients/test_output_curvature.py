"""The curvature of a softmax in the outputs acts by products: the same numbers, and no matrix of classes × classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.utils._python_dispatch import TorchDispatchMode

import upweight as uw
from problems import DOUBLE, close
from upweight.curvature import GGN, Hessian
from upweight.errors import InputError
from upweight.gradients import LinearFunction, Whole
from upweight.gradients.output_curvature import MANY, Softmax, is_softmax, joined, softmax_of
from upweight.losses import CausalLM, CrossEntropy

CLASSES, N, D = MANY + 3, 9, 3
generator = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=generator, dtype=DOUBLE)
LABELS = torch.randint(0, CLASSES, (N,), generator=generator)
SHARES = torch.rand(N, CLASSES, generator=generator, dtype=DOUBLE).softmax(-1)
WEIGHT = torch.rand(CLASSES, generator=generator, dtype=DOUBLE) + 0.2
WEIGHTS = torch.rand(N, generator=generator, dtype=DOUBLE) + 0.5
FORMS = {
    "plain": (CrossEntropy(), LABELS),
    "ignored": (CrossEntropy(ignore_index=int(LABELS[2])), LABELS),
    "weights": (CrossEntropy(weight=WEIGHT.tolist()), LABELS),
    "smoothing": (CrossEntropy(label_smoothing=0.2, factor=1.7), LABELS),
    "weights and smoothing": (CrossEntropy(weight=WEIGHT.tolist(), label_smoothing=0.1), LABELS),
    "probabilities": (CrossEntropy(weight=WEIGHT.tolist(), label_smoothing=0.1), SHARES),
}


class Sizes(TorchDispatchMode):
    """The largest tensor that an operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(each, Tensor):
                self.largest = max(self.largest, each.untyped_storage().nbytes() // each.element_size())
        return found


def linear(loss: Any, targets: Tensor, classes: int = CLASSES, **options: Any) -> uw.Objective:
    torch.manual_seed(1)
    return uw.Objective(nn.Linear(D, classes).double(), loss, (X, targets), l2=0.01, **options)


def truth(objective: uw.Objective, loss: Any, targets: Tensor) -> Tensor:
    model = objective.model

    def risk(theta: Tensor) -> Tensor:
        named = objective.layout.unflatten(theta)
        return WEIGHTS @ loss.of_outputs(functional_call(model, named, (X,)), (X, targets)) / N

    return hessian(risk)(objective.params) + 0.01 * torch.eye(objective.p, dtype=DOUBLE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_products_and_the_matrix_of_a_linear_layer_are_the_hessian(form: str, batch_size: int | None) -> None:
    loss, targets = FORMS[form]
    objective = linear(loss, targets, weights=WEIGHTS, batch_size=batch_size)
    assert isinstance(objective.engine.function, LinearFunction)
    assert objective.engine.function.by_softmax
    matrix, vectors = truth(objective, loss, targets), torch.randn(3, objective.p, dtype=DOUBLE)
    for kind in (Hessian(), GGN()):
        operator = kind.of(objective)
        close(operator.apply(vectors), vectors @ matrix, rtol=1e-10, atol=1e-12)
        close(operator.dense(), matrix, rtol=1e-10, atol=1e-12)
    batch = (X, targets)
    without = matrix - 0.01 * torch.eye(objective.p, dtype=DOUBLE)
    close(objective.engine.function.hessian_product(objective.params, batch, WEIGHTS / N, vectors), vectors @ without)


def test_without_kept_factors_and_of_some_examples() -> None:
    objective, vectors = linear(CrossEntropy(), LABELS), torch.randn(2, (D + 1) * CLASSES, dtype=DOUBLE)
    kept = GGN().of(objective).apply(vectors)
    some = GGN().of(objective).share([1, 5]).apply(vectors)
    again = linear(CrossEntropy(), LABELS).replace(budget=uw.Budget(kept=1))
    assert again.engine.linear_factors is None
    close(GGN().of(again).apply(vectors), kept)
    close(GGN().of(again).share([1, 5]).apply(vectors), some)


def test_features_that_are_always_zero_have_zero_rows() -> None:
    torch.manual_seed(1)
    x = X.clone()
    x[:, 1] = 0
    objective = uw.Objective(nn.Linear(D, CLASSES).double(), CrossEntropy(), (x, LABELS))
    operator = GGN().of(objective)
    close(operator.dense(), operator.apply(torch.eye(objective.p, dtype=DOUBLE)), atol=1e-14)


def test_parts_of_a_softmax_are_joined_weighed_and_written_out() -> None:
    p, mass = softmax_of(CrossEntropy(), SHARES.log(), (X, LABELS)) or (None, None)
    assert p is not None
    whole = Softmax(p, WEIGHTS * mass)
    close(joined([whole.take(slice(0, 4)), whole.take(slice(4, None))]).whole(), whole.whole())
    u = torch.randn(N, 2, CLASSES, dtype=DOUBLE)
    close(whole.apply(u), Whole(whole.whole()).apply(u), atol=1e-14)
    close(joined(list(whole.split(2))).whole(), joined(list(Whole(whole.whole()).split(2))).whole())
    assert joined([whole, Whole(whole.whole())]).whole().shape == (2 * N, CLASSES, CLASSES)


@dataclass(frozen=True)
class Squared(CrossEntropy):
    """A loss of the user's own, made of ours."""

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().compare(outputs, targets) ** 2


def test_a_loss_made_of_ours_keeps_its_own_curvature() -> None:
    loss = Squared()
    assert not is_softmax(loss)
    objective = linear(loss, LABELS, weights=WEIGHTS)
    close(Hessian().of(objective).dense(), truth(objective, loss, LABELS), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("work", ["apply", "dense"])
def test_no_matrix_of_classes_by_classes_is_made_of_an_example(work: str) -> None:
    classes = 300
    objective = linear(CrossEntropy(), LABELS, classes)
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    operator = GGN().of(objective)
    with Sizes() as sizes:
        operator.apply(vectors) if work == "apply" else operator.dense()
    most = 4 * N * classes * 2 if work == "apply" else objective.p**2
    assert sizes.largest <= most
    assert most < N * classes**2 or work == "dense"


class Next(nn.Module):
    """A language model of two layers."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(vocabulary, 3), nn.Linear(3, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.embed(tokens)))


@pytest.mark.parametrize("loss", [CausalLM(), CausalLM(reduction="mean", label_smoothing=0.1, factor=0.3)])
def test_ggn_products_of_a_language_model_are_those_of_its_jacobian(loss: CausalLM) -> None:
    torch.manual_seed(2)
    model = Next(CLASSES).double()
    tokens = torch.randint(0, CLASSES, (4, 5))
    labels = tokens.clone()
    labels[1, 2:] = -100
    objective = uw.Objective(model, loss, (tokens, labels), weights=WEIGHTS[:4])

    def outputs(theta: Tensor) -> Tensor:
        return functional_call(model, objective.layout.unflatten(theta), (tokens,))[:, :-1]

    jacobian, at = jacrev(outputs)(objective.params).flatten(1, 2), outputs(objective.params).flatten(1)
    matrix = torch.zeros(objective.p, objective.p, dtype=DOUBLE)
    for i in range(4):
        one = (tokens[i : i + 1], labels[i : i + 1])
        middle = hessian(lambda z, one=one: loss.of_outputs(z.reshape(1, 4, CLASSES), one)[0])(at[i])
        matrix += WEIGHTS[i] / 4 * jacobian[i].T @ middle @ jacobian[i]
    operator, vectors = GGN().of(objective), torch.randn(3, objective.p, dtype=DOUBLE)
    close(operator.apply(vectors), vectors @ matrix, rtol=1e-9, atol=1e-12)
    close(operator.dense(), matrix, rtol=1e-9, atol=1e-12)


def test_a_network_of_many_classes_makes_no_matrix_of_them_either() -> None:
    torch.manual_seed(3)
    classes = 400
    model = nn.Sequential(nn.Linear(D, 2), nn.Tanh(), nn.Linear(2, classes)).double()
    objective = uw.Objective(model, CrossEntropy(), (X, LABELS))
    operator, vectors = GGN().of(objective), torch.randn(2, objective.p, dtype=DOUBLE)
    with Sizes() as sizes:
        operator.apply(vectors)
    assert sizes.largest <= 4 * N * classes * 2


def test_rows_of_too_many_outputs_are_refused_before_they_are_made() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(D, 2), nn.Tanh(), nn.Linear(2, 600)).double()
    objective = uw.Objective(model, CrossEntropy(), (X, LABELS))
    objective.outputs(objective.data.take([0]))
    with Sizes() as sizes, pytest.raises(InputError, match=r"600 outputs a place.*inverse.CG\(curvature.GGN\(\)\)"):
        GGN().rows(objective, 10)
    assert sizes.largest < 600**2
