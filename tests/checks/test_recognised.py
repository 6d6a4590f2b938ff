"""The same loss in other words is the same loss: scores don't depend on how it is spelt."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight import losses

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore:per-example gradients"),
]

N, CLASSES, TIME, WORDS = 12, 4, 5, 9


@dataclass
class Said:
    logits: Tensor
    hidden: Tensor


class Structured(nn.Module):
    """A model that returns more than its outputs."""

    def __init__(self, kind: str, dtype: torch.dtype = DOUBLE):
        super().__init__()
        self.kind, self.body, self.head = kind, nn.Linear(3, 5, dtype=dtype), nn.Linear(5, CLASSES, dtype=dtype)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.body(x))
        logits = self.head(hidden)
        forms = {"tuple": (logits, hidden), "dict": {"logits": logits, "hidden": hidden}}
        return forms.get(self.kind, Said(logits, hidden))


class Words(nn.Module):
    def __init__(self, is_second: bool = False):
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, 3, dtype=DOUBLE), nn.Linear(3, WORDS, dtype=DOUBLE)
        self.is_second = is_second

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.head(torch.tanh(self.embedding(ids).cumsum(1)))
        return logits.movedim(-1, 1) if self.is_second else logits


def network(outputs: int = CLASSES, dtype: torch.dtype = DOUBLE) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5, dtype=dtype), nn.Tanh(), nn.Linear(5, outputs, dtype=dtype))


def inputs(dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def labels(classes: int = CLASSES) -> Tensor:
    return torch.arange(N) % classes


def tokens() -> Tensor:
    return torch.randint(0, WORDS, (N, TIME), generator=torch.Generator().manual_seed(2))


def numbers() -> Tensor:
    return torch.randn(N, 2, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)


def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "labels": (network, lambda: (inputs(), labels()), lambda m, b: entropy(m(b[0]), b[1]), losses.CrossEntropy()),
    "by hand, halved": (
        network,
        lambda: (inputs(), labels()),
        lambda m, b: -0.5 * m(b[0]).log_softmax(-1)[torch.arange(len(b[1])), b[1]],
        losses.CrossEntropy(factor=0.5),
    ),
    "in float32": (
        lambda: network(dtype=torch.float32),
        lambda: (inputs(torch.float32), labels()),
        lambda m, b: entropy(m(b[0]), b[1]),
        losses.CrossEntropy(),
    ),
    "a dict": (
        lambda: Structured("dict"),
        lambda: {"x": inputs(), "labels": labels()},
        lambda m, b: entropy(m(x=b["x"])["logits"], b["labels"]),
        losses.CrossEntropy(),
    ),
    "a tuple": (
        lambda: Structured("tuple"),
        lambda: (inputs(), labels()),
        lambda m, b: entropy(m(b[0])[0], b[1]),
        losses.CrossEntropy(),
    ),
    "a dataclass": (
        lambda: Structured("dataclass"),
        lambda: (inputs(), labels()),
        lambda m, b: entropy(m(b[0]).logits, b[1]),
        losses.CrossEntropy(),
    ),
    "places": (
        Words,
        lambda: (tokens(), (tokens() + 1) % WORDS),
        lambda m, b: entropy(m(b[0]).movedim(-1, 1), b[1]).sum(-1),
        losses.CrossEntropy(),
    ),
    "mean of places, classes second": (
        lambda: Words(is_second=True),
        lambda: (tokens(), (tokens() + 1) % WORDS),
        lambda m, b: entropy(m(b[0]), b[1]).mean(-1),
        losses.CrossEntropy(factor=1 / TIME),
    ),
    "next tokens": (
        Words,
        tokens,
        lambda m, b: entropy(m(b)[:, :-1].movedim(-1, 1), b[:, 1:]).sum(-1),
        losses.CausalLM(),
    ),
    "mean of next tokens that count": (
        Words,
        lambda: (tokens(), tokens().where(tokens() > 3, -100)),
        lambda m, b: (
            entropy(m(b[0])[:, :-1].movedim(-1, 1), b[1][:, 1:]).sum(-1) / (b[1][:, 1:] != -100).sum(-1).clamp_min(1)
        ),
        losses.CausalLM(reduction="mean"),
    ),
    "one logit": (
        lambda: network(1),
        lambda: (inputs(), labels(2).double()),
        lambda m, b: F.binary_cross_entropy_with_logits(m(b[0])[:, 0], b[1], reduction="none"),
        losses.BinaryLogistic(),
    ),
    "signs": (
        lambda: network(1),
        lambda: (inputs(), 2 * labels(2) - 1),
        lambda m, b: F.softplus(-b[1] * m(b[0]).squeeze(-1)),
        losses.BinaryLogistic(),
    ),
    "mean of squares": (
        lambda: network(2),
        lambda: (inputs(), numbers()),
        lambda m, b: ((m(b[0]) - b[1]) ** 2).mean(-1),
        losses.SquaredError(0.5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_do_not_depend_on_how_a_loss_is_spelt(name: str) -> None:
    make, data, function, loss = CASES[name]
    model, given = make(), data()
    spelt, named = uw.Objective(model, function, given), uw.Objective(model, loss, given)
    assert type(spelt.loss) is type(loss)
    assert spelt.loss.factor == pytest.approx(loss.factor)
    assert replace(spelt.loss, factor=loss.factor) == loss
    queries = given if name != "mean of next tokens that count" else tuple(part[:2] for part in given)
    one, other = uw.Influence(spelt), uw.Influence(named)
    assert one.choice == other.choice
    close(one.attribute(queries).scores, other.attribute(queries).scores, rtol=1e-5, atol=1e-8)
    kept = uw.Objective(model, losses.Function(function), given)
    assert isinstance(kept.loss, losses.Function)  # where it is asked for
    close(kept.losses(), spelt.losses(), rtol=1e-5)


def weighted(model: nn.Module, batch: Any) -> Tensor:
    weights = torch.tensor([1.0, 1.0, 1.0, 1.5], dtype=DOUBLE)
    return weights[batch[1]] * entropy(model(batch[0]), batch[1])


def penalised(model: nn.Module, batch: Any) -> Tensor:
    return entropy(model(batch[0]), batch[1]) + 0.1 * sum(part.square().sum() for part in model.parameters())


def by_parts(model: Any, batch: Any) -> Tensor:
    return entropy(model[2](model[1](model[0](batch[0]))), batch[1])


def twice(model: nn.Module, batch: Any) -> Tensor:
    return entropy(model(batch[0]), batch[1]) + entropy(model(-batch[0]), batch[1])


def focal(model: nn.Module, batch: Any) -> Tensor:
    found = entropy(model(batch[0]), batch[1])
    return (1 - (-found).exp()) ** 2 * found


def of_other_inputs(model: nn.Module, batch: Any) -> Tensor:
    return entropy(model(batch[0].roll(1, -1)), batch[1])


OTHERS = {
    "a class counts more": weighted,
    "a penalty": penalised,
    "parts of the model": by_parts,
    "two calls": twice,
    "focal": focal,
    "inputs changed": of_other_inputs,
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_loss_stays_what_it_is(name: str) -> None:
    """All labels but one example's are of classes that count alike, and that one may be anywhere."""
    model, y = network(), torch.zeros(N, dtype=torch.long)
    y[5] = 3
    objective = uw.Objective(model, OTHERS[name], (inputs(), y))
    assert isinstance(objective.loss, losses.Function)
    with torch.no_grad():
        close(objective.losses(), OTHERS[name](model, (inputs(), y)))


def test_one_example_beyond_those_looked_at_tells_two_losses_apart() -> None:
    """A class number that the function leaves out stands at one of a thousand examples."""
    n = 1000
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    y = torch.arange(n) % 3
    y[7] = -1

    def ignoring(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], ignore_index=-1, reduction="none")

    objective = uw.Objective(network(3), ignoring, (x, y))
    assert isinstance(objective.loss, losses.Function)
    assert float(objective.losses()[7]) == 0


def text_loss(**options: Any) -> Any:
    return lambda m, b: F.cross_entropy(m(b[0]).transpose(1, 2), b[1], reduction="none", **options).sum(1)


class Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 4), nn.Linear(4, 6)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(torch.tanh(self.table(tokens)))


def masked(m: nn.Module, b: Any) -> Tensor:
    return (F.cross_entropy(m(b[0], b[1]).transpose(1, 2), b[2], reduction="none") * b[1]).sum(1)


FULL, LABELLED = torch.randint(1, 6, (20, 4)), torch.randint(1, 6, (20, 4))
POINTS, HEIGHTS = torch.randn(20, 3, dtype=DOUBLE), torch.randn(20, 1, dtype=DOUBLE)
UNSEEN: dict[str, tuple[Any, Any, Any]] = {
    "padding": (Texts, (FULL, LABELLED), text_loss(ignore_index=0)),
    "a class": (Texts, (FULL, LABELLED), text_loss(weight=torch.tensor([5.0, 1, 1, 1, 1, 1], dtype=DOUBLE))),
    "a mask": (Texts, (FULL, torch.ones(20, 4, dtype=torch.long), LABELLED), masked),
    "a far target": (
        lambda: nn.Linear(3, 1),
        (POINTS, HEIGHTS),
        lambda m, b: F.huber_loss(m(b[0]), b[1], delta=10.0, reduction="none").sum(1),
    ),
    "a far output": (
        lambda: nn.Linear(3, 3),
        (POINTS, torch.arange(20) % 3),
        lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none").clamp(max=15.0),
    ),
    "a weight by a column": (
        lambda: nn.Linear(3, 3),
        (POINTS * torch.tensor([1.0, 1, 0]), torch.arange(20) % 3),
        lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none") * (1 + b[0][:, 2]),
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_training_examples_never_show_keeps_a_function_as_it_is(name: str) -> None:
    make, data, function = UNSEEN[name]
    assert isinstance(uw.Objective(make().to(DOUBLE), function, data).loss, losses.Function)


def test_a_function_may_call_the_model_twice() -> None:
    def twice(m: nn.Module, b: Any) -> Tensor:
        return m(b[0]).logsumexp(1) - m(b[0]).gather(1, b[1][:, None])[:, 0]

    objective = uw.Objective(nn.Linear(3, 3).to(DOUBLE), twice, (POINTS, torch.arange(20) % 3))
    assert isinstance(objective.loss, losses.CrossEntropy)
