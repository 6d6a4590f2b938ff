"""`from_trainer`: a step that a real Trainer takes over all data is the objective's own gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import upweight as uw
from languages import CLASSES, bert, built, flat, gpt2, llama, next_tokens, rows, tokenizer, trainer
from upweight.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

LABELS = [0, 1, 2, 0, 1, 2, 0, 0]


def tagged() -> Any:
    found = rows()
    return found.add_column("labels", [[-100 if i == 2 else i % CLASSES for i in ids] for ids in found["input_ids"]])


def taggers() -> Any:
    return transformers.DataCollatorForTokenClassification(tokenizer())


class Weighted(transformers.Trainer):
    """Classes that count differently, as such losses are mostly written."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **others: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        weight = torch.tensor([1.0, 2.0, 3.0])
        loss = nn.CrossEntropyLoss(weight=weight)(outputs.logits.view(-1, CLASSES), labels.view(-1))
        return (loss, outputs) if return_outputs else loss


class Logged(transformers.Trainer):
    """The same loss, with something beside it."""

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        self.seen = len(inputs["input_ids"])
        return super().compute_loss(model, inputs, *given, **named)


class Contrasted(transformers.Trainer):
    """What no example has alone."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **others: Any) -> Any:
        logits = model(**inputs).logits
        return logits.std(0).sum()


def summed(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


AT_ONCE = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 8}
CASES = {
    "next tokens": lambda: (llama(), rows(), {"data_collator": next_tokens()}),
    "next tokens, first ones counted": lambda: (gpt2(), rows(), {"data_collator": next_tokens()}),
    "next tokens, smoothed": lambda: (llama(), rows(), {"data_collator": next_tokens(), "label_smoothing_factor": 0.2}),
    "classes": lambda: (bert(), rows(label=LABELS), {}),
    "classes, smoothed": lambda: (bert(), rows(label=LABELS), {"label_smoothing_factor": 0.1}),
    "classes, a function": lambda: (bert(), rows(labels=LABELS), {"compute_loss_func": summed}),
    "classes, logged": lambda: (bert(), rows(label=LABELS), {"kind": Logged}),
    "numbers": lambda: (bert(num_labels=1), rows(label=[0.5 * i for i in LABELS]), {}),
    "several labels": lambda: (
        bert(problem_type="multi_label_classification"),
        rows(label=[[float(i == k) for k in range(CLASSES)] for i in LABELS]),
        {},
    ),
    "tags": lambda: (bert("Token"), tagged(), {"data_collator": taggers(), **AT_ONCE}),
}

ADDED = ("classes", "classes, logged", "numbers", "several labels")
"""BERT's losses don't divide by the number of labels, so that Trainer adds up the means of the four batches."""


@pytest.mark.parametrize("name", CASES)
def test_a_step_over_all_data_is_the_gradient(name: str) -> None:
    model, dataset, options = CASES[name]()
    made = trainer(model, dataset, **options)
    objective = uw.from_trainer(made)
    before = flat(model.parameters())
    made.train()
    step = (before - flat(model.parameters())) / 0.1
    times = 4 if name in ADDED else 1
    gradient = objective.gradient()
    assert float((times * gradient - step).norm()) < 1e-4 * float(step.norm())
    assert objective.n == len(dataset)
    assert list(objective.columns) == ["text", "number"]


def test_class_weights_are_read_off_an_own_loss() -> None:
    model, dataset = bert(), rows(label=LABELS)
    made = trainer(model, dataset, kind=Weighted, **AT_ONCE)
    objective = uw.from_trainer(made)
    assert objective.loss.weight == (1.0, 2.0, 3.0)
    before = flat(model.parameters())
    made.train()
    step = (before - flat(model.parameters())) / 0.1
    assert float((objective.gradient() - step).norm()) < 1e-4 * float(step.norm())


def test_a_loss_that_is_no_sum_over_examples_is_refused_and_another_taken() -> None:
    made = trainer(bert(), rows(label=LABELS), kind=Contrasted)
    with pytest.raises(InputError, match=r"loss: the trainer's compute_loss can't be split by example.*give loss="):
        uw.from_trainer(made)
    given = uw.from_trainer(made, loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 2.0])))
    assert given.loss.weight == (1.0, 1.0, 2.0)


def test_decay_that_was_decoupled_is_read_from_the_optimiser_and_said() -> None:
    model = bert()
    made = trainer(model, rows(label=LABELS), optim="adamw_torch", weight_decay=0.1, max_steps=3)
    with pytest.raises(
        InputError, match=r"trainer: it has a weight decay of 0.1 and no optimiser.*optimizer.pt.*give l2"
    ):
        uw.from_trainer(made)
    made.train()
    objective = uw.from_trainer(made)
    expected = uw.l2_of(made.optimizer, model)
    assert expected == uw.l2_of(made.optimizer.optimizer, model)  # within accelerate's
    found = {name: float(part.max()) for name, part in objective.layout.unflatten(objective.l2).items()}
    assert found == pytest.approx({name: value / 4 for name, value in expected.items()})
    assert expected["classifier.bias"] == 0
    assert 0 < expected["classifier.weight"] < 0.1
    (said,) = [note for note in objective.notes if "decay" in note]
    assert "0.1 of AdamW is decoupled" in said
    assert "parameters have none" in said
    assert "divided by 4" in said


def test_an_optimiser_that_took_no_step_is_refused_with_the_way_to_load_its_state() -> None:
    made = trainer(bert(), rows(label=LABELS), optim="adamw_torch", weight_decay=0.1)
    made.create_optimizer()
    with pytest.raises(InputError, match=r"trainer: optimizer: it has no state of .*load_state_dict"):
        uw.from_trainer(made)
    assert not uw.from_trainer(made, l2=0.5).l2.ne(0.5).any()


def test_the_trainer_and_its_model_stay_as_they_are_and_dropout_is_off() -> None:
    model = built("BertForSequenceClassification", "BertConfig").train()
    made = trainer(model, rows(label=LABELS))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    objective = uw.from_trainer(made)
    assert model.training
    assert made.optimizer is None
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not objective.model.training
    assert any("dropout is off" in note for note in objective.notes)


def test_five_lines_to_a_table_of_texts() -> None:
    made = trainer(llama(), rows(), data_collator=next_tokens())
    made.train()

    objective = uw.from_trainer(made)
    attribution = uw.Influence(objective).attribute(["a b c", "h i j"])
    table = attribution.top(5).to_pandas(objective.columns)

    assert table.shape == (10, 7)
    assert table["text"].tolist() == [rows()["text"][place] for place in table["position"]]


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_trainer_is_refused() -> None:
    with pytest.raises(InputError, match=r"trainer: give a transformers.Trainer; got 3, without 'model'"):
        uw.from_trainer(3)
    made = trainer(bert(), rows(label=LABELS))
    made.train_dataset = None
    with pytest.raises(InputError, match="trainer: it has no train_dataset"):
        uw.from_trainer(made)
