"""Texts explained: what is shown are the attribution's own scores, of tokens as the tokenizer reads them."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import upweight as uw
from languages import TEXTS, WORDS, bert, llama, next_tokens, rows, tokenizer, trainer
from upweight import InputError
from upweight.gradients.tokens import MADE, Field
from upweight.quantities.by_token import MADE_UP, PADDING, token_numbers
from upweight.tasks import TextExplanation

pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")
INVERSE = uw.inverse.Dual(damping=0.1)


@cache
def objective() -> uw.Objective:
    return uw.from_trainer(trainer(llama(), rows(), data_collator=next_tokens()))


@cache
def explained(linked: bool) -> TextExplanation:
    return uw.tasks.explain_texts(uw.Influence(objective(), INVERSE), ["a b c", "f g"], tokenizer(), 2, linked=linked)


@pytest.mark.parametrize("linked", [False, True])
def test_coloured_tokens_are_the_scores_of_the_attribution(linked: bool) -> None:
    found = explained(linked)
    influence = uw.Influence(objective(), INVERSE)
    train = influence.attribute(["a b c", "f g"], by="train-token")
    query = influence.attribute(["a b c", "f g"], by="query-token")
    for number, text in enumerate(["a b c", "f g"]):
        for side, ranking in (("helpful", train.sequence.top(2)), ("harmful", train.sequence.bottom(2))):
            block = found.tokens(number, side)
            assert "".join(block.tokens) == text
            assert block.linked == linked
            by_query = torch.zeros(len(block.tokens))
            for place, example in zip(ranking.positions[number].tolist(), block.examples, strict=True):
                assert "".join(example.tokens) == TEXTS[place]
                scores = torch.as_tensor(example.scores).reshape(-1, len(example.tokens)).sum(0)
                expected = train.of(number, place)
                assert expected.train is not None
                torch.testing.assert_close(scores.float(), expected.train[: len(scores)])
                torch.testing.assert_close(float(scores.sum()), expected.sequence, rtol=1e-4, atol=1e-7)
                assert f"{expected.sequence:+.3g} nats" in example.caption
                by_query += query.of(number, place).query_tokens[: len(by_query)]
            shares = torch.tensor([token.shares[0] for token in block.query])
            torch.testing.assert_close(shares, by_query / by_query.abs().max(), rtol=1e-4, atol=1e-4)


def test_a_table_has_both_sides_with_texts() -> None:
    table = explained(False).to_pandas()
    assert list(table.side) == ["helpful"] * 4 + ["harmful"] * 4
    assert all(text == TEXTS[place] for text, place in zip(table.text, table.position, strict=True))
    assert "most harmful" in repr(explained(False))


def test_a_page_says_label_and_prediction_of_a_classification() -> None:
    labelled = rows(label=[0, 1, 2, 0, 1, 2, 0, 1])
    model = bert()
    made = uw.from_transformers(model, labelled, tokenizer(), class_names=["no", "yes", "so"])
    found = uw.tasks.explain_texts(uw.Influence(made, INVERSE), labelled.select([1]), tokenizer(), 1)
    with torch.no_grad():
        row = labelled[1]
        likely = model(**{key: torch.tensor([row[key]]) for key in ("input_ids", "attention_mask")}).logits.softmax(-1)
    said = ["no", "yes", "so"][int(likely.argmax())]
    assert f"Labelled yes; the model says {said} (p = {float(likely.max()):.3f})." in found.report("pages").html()
    assert set(found.to_pandas().label) <= {"no", "yes", "so"}
    place = int(found.helpful.positions[0, 0])
    assert f"label {found.to_pandas().label[0]}" in found.tokens().examples[0].caption
    assert f"number {place}" in found.tokens().examples[0].caption


def test_special_tokens_are_told_in_the_caption() -> None:
    marked = [
        {**row, "input_ids": [1, *row["input_ids"]], "attention_mask": [1, *row["attention_mask"]]} for row in rows()
    ]
    made = uw.from_transformers(llama(), marked, tokenizer())
    found = uw.tasks.explain_texts(uw.Influence(made, INVERSE), marked[:1], tokenizer(), 1)
    place = int(found.helpful.positions[0, 0])
    scores, example = found.attribution.of(0, place), found.tokens().examples[0]
    assert scores.train is not None
    assert "".join(example.tokens) == TEXTS[place]
    assert "".join(found.tokens().tokens) == TEXTS[0]
    assert f"of which {float(scores.train[0]):+.3g} at special tokens" in example.caption
    torch.testing.assert_close(torch.as_tensor(example.scores).float(), scores.train[1 : 1 + len(example.tokens)])


def test_padding_and_what_a_decoder_makes_itself_have_no_number() -> None:
    batch = {"input_ids": torch.tensor([[3, 4, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    fields = Field("input_ids", 0, 3), Field(MADE, 3, 5)
    assert token_numbers(batch, fields).tolist() == [3, 4, PADDING, MADE_UP, MADE_UP]
    assert token_numbers((torch.tensor([[5, 6]]), torch.tensor([1])), [Field("0", 0, 2)]).tolist() == [5, 6]


class Summed(nn.Module):
    """The sum of what is looked up, and a layer on top."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.top = nn.Embedding(len(WORDS), 4), nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.top(torch.tanh(self.table(ids)).sum(1))


def arrays() -> tuple[torch.Tensor, torch.Tensor]:
    ids = [torch.tensor(tokenizer()(text)["input_ids"]) for text in TEXTS]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.arange(len(TEXTS)) % 2


def of_a_loop() -> uw.Objective:
    model, (ids, labels) = Summed(), arrays()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(ids, labels), batch_size=4, shuffle=True)
    for batch, targets in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), targets).backward()
        optimizer.step()
    return uw.Objective(model, nn.CrossEntropyLoss(), loader)


def of_lightning() -> uw.Objective:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = Summed()

            def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
                return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.1)

        module, quiet = Module(), {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        fit = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=1, enable_model_summary=False, **quiet).fit
        fit(module, DataLoader(TensorDataset(*arrays()), batch_size=4))
        return uw.from_lightning(module)


@pytest.mark.parametrize("made", [of_a_loop, of_lightning])
def test_what_a_loop_or_lightning_has_trained_is_explained_by_two_lines(made: Any) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    objective, (ids, labels) = made(), arrays()
    influence = uw.Influence(objective, uw.inverse.Identity())
    found = uw.tasks.explain_texts(influence, (ids[:1], labels[:1]), tokenizer(), 5)
    assert len(found.to_pandas()) == 10
    place = int(found.helpful.positions[0, 0])
    example = found.tokens().examples[0]
    assert "".join(example.tokens) == TEXTS[place]
    parts = found.attribution.of(0, place)
    assert parts.train is not None
    torch.testing.assert_close(torch.as_tensor(example.scores).float(), parts.train[: len(example.tokens)])
    assert f"{parts.remainder:+.3g} at no token" in example.caption  # the layer on the sum
    assert TEXTS[place].split()[0] in found.report().html()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer": object()}, "tokenizer: give the one that made the tokens"),
        ({"k": 0}, "k: "),
    ],
)
def test_what_is_no_tokenizer_or_number_is_refused(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"subject": objective(), "queries": ["a b"], "tokenizer": tokenizer(), "k": 1}
    with pytest.raises(InputError, match=said):
        uw.tasks.explain_texts(**{**given, **change})


def test_a_place_or_side_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="query"):
        explained(False).tokens(2)
    with pytest.raises(InputError, match="side"):
        explained(False).tokens(0, "good")  # type: ignore[arg-type]
