"""Causal language models: every token is explained by those before it, and labels at the wrong place are refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight import losses
from upweight.errors import InputError, UpweightWarning

pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")

TOKENS, TIME, WORDS = 6, 5, 7


class Tiny(nn.Module):
    """Tokens summed up to each place, then words; called as Hugging Face's models are, with a loss of its own."""

    shift, extra = 1, 0.0

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 3, dtype=DOUBLE)
        self.head = nn.Linear(3, WORDS, dtype=DOUBLE)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        x = self.embedding(input_ids)
        if attention_mask is not None:
            x = x * attention_mask.unsqueeze(-1)
        logits = self.head(torch.tanh(x.cumsum(1)))
        if labels is None:
            return {"loss": None, "logits": logits}
        places = logits.shape[1] - self.shift
        loss = F.cross_entropy(logits[:, :places].flatten(0, 1), labels[:, self.shift :].flatten())
        return {"loss": loss + self.extra, "logits": logits}


class Unshifted(Tiny):
    """A tagger: one label for the token at each place."""

    shift = 0


class WithMore(Tiny):
    """Its own loss has a further term, as routed models' have."""

    extra = 0.5


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, WORDS, (TOKENS, TIME), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    mask[4, 2:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask > 0, ids, -100)}


def by_hand(model: nn.Module, data: dict[str, Tensor]) -> list[Tensor]:
    """−log p of each token that counts, example by example."""
    found = []
    for i in range(TOKENS):
        logits = model(data["input_ids"][i : i + 1], data["attention_mask"][i : i + 1])["logits"][0]
        labels = data["labels"][i]
        places = [t for t in range(1, TIME) if labels[t] != -100]
        found.append(torch.stack([-logits[t - 1].log_softmax(-1)[labels[t]] for t in places]))
    return found


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_every_token_is_predicted_from_those_before_it(reduction: str) -> None:
    model, data = Tiny(), batch()
    expected = torch.stack([getattr(values, reduction)() for values in by_hand(model, data)])
    loss = losses.CausalLM(reduction=reduction)
    objective = uw.Objective(model, loss, data, batch_size=4)
    close(objective.losses(), expected)
    without_labels = {key: data[key] for key in ("input_ids", "attention_mask")}
    close(uw.Objective(model, loss, without_labels).losses(), expected)
    assert uw.Influence(objective, uw.inverse.Identity()).attribute(data).quantity.unit.startswith(loss.unit)


def test_tokens_alone_and_pairs_of_tokens_and_labels_are_data_too() -> None:
    model, ids = nn.Sequential(nn.Embedding(WORDS, 3), nn.Linear(3, WORDS)).double(), batch()["input_ids"]
    expected = F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").sum(-1)
    for data in (ids, (ids, ids), (ids, ids.to(torch.uint8))):
        close(uw.Objective(model, losses.CausalLM(), data).losses(), expected)


def test_with_its_factor_the_risk_is_the_models_own_mean_by_token() -> None:
    model, data = Tiny(), batch()
    count = int((data["labels"][:, 1:] != -100).sum())
    objective = uw.Objective(model, losses.CausalLM(factor=TOKENS / count), data)
    close(objective.losses().mean(), model(**data)["loss"])


OPTIONS: dict[str, dict[str, Any]] = {
    "sum": {},
    "mean": {"reduction": "mean"},
    "smoothed": {"label_smoothing": 0.1},
    "cooler": {"temperature": 2.0},
    "smoothed mean of weights": {"reduction": "mean", "label_smoothing": 0.2, "weight": [1.0, 2.0, 0.5, 1, 1, 1, 3]},
}


def value(logits: Tensor, labels: Tensor, options: dict[str, Any]) -> Tensor:
    """The loss of one example's logits, by torch."""
    weight = torch.tensor(options["weight"], dtype=DOUBLE) if "weight" in options else None
    total = F.cross_entropy(
        logits[:-1] / options.get("temperature", 1.0),
        labels[1:],
        weight=weight,
        label_smoothing=options.get("label_smoothing", 0.0),
        reduction="sum",
    )
    return total / (labels[1:] != -100).sum() if options.get("reduction") == "mean" else total


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_and_curvature_are_those_of_the_whole_differentiated(name: str) -> None:
    options = OPTIONS[name]
    model, data = Tiny(), batch()
    objective = uw.Objective(model, losses.CausalLM(**options), data, batch_size=4)

    def logits(theta: Tensor, i: int) -> Tensor:
        given = (data["input_ids"][i : i + 1], data["attention_mask"][i : i + 1])
        return torch.func.functional_call(model, objective.layout.unflatten(theta), given)["logits"][0]

    theta = objective.params
    gradients, hessian, ggn = [], torch.zeros(objective.p, objective.p), torch.zeros(objective.p, objective.p)
    for i in range(TOKENS):

        def of_logits(z: Tensor, i: int = i) -> Tensor:
            return value(z.reshape(TIME, WORDS), data["labels"][i], options)

        def of_theta(t: Tensor, i: int = i, of_logits: Any = of_logits) -> Tensor:
            return of_logits(logits(t, i))

        gradients.append(torch.func.grad(of_theta)(theta))
        hessian = hessian + torch.func.hessian(of_theta)(theta) / TOKENS
        jacobian = torch.func.jacrev(lambda t, i=i: logits(t, i).flatten())(theta)
        ggn = ggn + jacobian.T @ torch.func.hessian(of_logits)(logits(theta, i).flatten()) @ jacobian / TOKENS
    whole = torch.stack(gradients)
    close(torch.cat([g for _, g in objective.example_gradients()]), whole)
    damped = torch.eye(objective.p, dtype=DOUBLE)
    for curvature, matrix in ((uw.curvature.Hessian(), hessian), (uw.curvature.GGN(), ggn)):
        expected = whole @ torch.linalg.solve(matrix + damped, whole.T) / TOKENS
        close(
            uw.Influence(objective, uw.inverse.Dense(curvature, damping=1.0)).attribute(data).scores,
            expected,
            rtol=1e-6,
        )
    expected = whole @ torch.linalg.solve(ggn + damped, whole.T) / TOKENS
    by_rows = uw.Influence(objective, uw.inverse.Dual(uw.curvature.GGN(), damping=1.0))
    close(by_rows.attribute(data).scores, expected, rtol=1e-6)


def test_drawn_targets_have_the_ggn_as_their_mean() -> None:
    """The Fisher matrix of many draws, places that don't count left out and means by token weighted as such."""
    model, data = Tiny(), batch()
    objective = uw.Objective(model, losses.CausalLM(reduction="mean"), data)
    exact = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=0.1)).attribute(data).scores
    drawn = (
        uw.Influence(objective, uw.inverse.Dense(uw.curvature.Fisher(samples=3000), damping=0.1)).attribute(data).scores
    )
    assert float((drawn - exact).abs().max() / exact.abs().max()) < 0.05


CAUSAL = r"a causal language model was trained on the token after each place: give losses\.CausalLM\(\)"


def unpadded() -> Tensor:
    return batch()["input_ids"]


@pytest.mark.parametrize(
    "data",
    [
        batch(),
        {"input_ids": unpadded(), "labels": unpadded()},
        {"input_ids": unpadded(), "labels": unpadded().where(torch.arange(TIME) > 1, -100)},
    ],
    ids=["padded", "whole", "prompts left out"],
)
@pytest.mark.parametrize("model", [Tiny(), Unshifted()], ids=["shifts", "doesn't"])
def test_labels_that_are_the_tokens_themselves_are_refused(model: nn.Module, data: Any) -> None:
    with pytest.raises(InputError, match=rf"loss: the labels are the input tokens at their own places; {CAUSAL}"):
        uw.Objective(model, losses.CrossEntropy(), data)


def test_pairs_of_the_same_tokens_are_refused() -> None:
    model, ids = nn.Sequential(nn.Embedding(WORDS, 3), nn.Linear(3, WORDS)), unpadded()
    with pytest.raises(InputError, match=CAUSAL):
        uw.Objective(model, losses.CrossEntropy(class_axis=-1), (ids, ids.clone()))


def others() -> dict[str, Tensor]:
    """Labels that aren't the tokens."""
    return {**batch(), "labels": (batch()["input_ids"] + 1) % WORDS}


def test_a_models_own_loss_tells_that_it_shifts() -> None:
    own, given = float(own_loss(others()).detach()), r"and the loss given has a mean of \d\.\d+"
    with pytest.raises(InputError, match=rf"the model's own loss is {own:.4g}, {given}; {CAUSAL}"):
        uw.Objective(seeded(Tiny), losses.CrossEntropy(), others())


def seeded(kind: type[Tiny]) -> Tiny:
    torch.manual_seed(3)
    return kind()


def own_loss(data: dict[str, Tensor]) -> Tensor:
    return seeded(Tiny)(**data)["loss"]


def test_a_model_whose_own_loss_is_the_one_given_is_taken() -> None:
    assert uw.Objective(Unshifted(), losses.CrossEntropy(), others()).n == TOKENS
    assert uw.Objective(Tiny(), losses.CausalLM(), others()).n == TOKENS
    assert uw.Objective(Tiny(), losses.CausalLM(reduction="mean"), batch()).n == TOKENS
    assert uw.Objective(Tiny(), losses.CrossEntropy(label_smoothing=0.1), others()).n == TOKENS  # compared with nothing


@pytest.mark.parametrize("loss", [losses.CausalLM(), losses.CrossEntropy()], ids=["causal", "by place"])
def test_another_loss_than_the_models_own_is_told_with_both_figures(loss: Any) -> None:
    own = float(seeded(WithMore)(**others())["loss"].detach())
    with pytest.warns(UpweightWarning, match=rf"the model's own loss is {own:.4g}, and the loss given has a mean of"):
        uw.Objective(seeded(WithMore), loss, others())


BAD: dict[str, tuple[dict[str, Any], Any, str]] = {
    "reduction": ({"reduction": "none"}, batch(), r"reduction: give one of \('sum', 'mean'\); got 'none'"),
    "class axis": ({"class_axis": 1}, batch(), "class_axis: a language model's logits have the vocabulary last"),
    "one token": ({}, unpadded()[:, :1], r"two tokens or more"),
    "shifted": ({}, (unpadded(), unpadded()[:, 1:]), r"labels \(2, 4\) against logits of 5 places.*not shifted"),
    "real labels": ({}, (unpadded(), unpadded().double()), r"labels are torch.float32; it needs token numbers"),
    "no tokens": ({}, {"x": unpadded()}, r"a dict batch needs 'input_ids', or labels under one of"),
    "a word too many": ({}, (unpadded(), unpadded() + 1), r"targets range from \d to 7, but the model has 7 outputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sequence_of_tokens_is_refused(name: str) -> None:
    options, data, said = BAD[name]
    with pytest.raises(InputError, match=said):
        uw.Objective(nn.Sequential(nn.Embedding(WORDS, 3), nn.Linear(3, WORDS)), losses.CausalLM(**options), data)


def test_one_value_for_each_example_is_no_sequence_of_logits() -> None:
    model = nn.Sequential(nn.Embedding(WORDS, 3), nn.Flatten(), nn.Linear(3 * TIME, WORDS))
    with pytest.raises(InputError, match=r"the model gives \(2, 7\); it needs logits \[batch, time, vocabulary\]"):
        uw.Objective(model, losses.CausalLM(), unpadded())
