"""Texts explained, whatever trained the model: `Trainer`, Lightning, or a loop of one's own."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import upweight as uw
from languages import TEXTS, WORDS, llama, next_tokens, rows, tokenizer, trainer
from upweight.gradients.tokens import MADE, Field
from upweight.quantities.by_token import MADE_UP, PADDING, token_numbers

pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")


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

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                return self.model(ids)

            def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
                return nn.functional.cross_entropy(self(batch[0]), batch[1])

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.1)

        module, quiet = Module(), {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        fit = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=1, enable_model_summary=False, **quiet).fit
        fit(module, DataLoader(TensorDataset(*arrays()), batch_size=4))
        return uw.from_lightning(module)


@pytest.mark.parametrize("made", [of_a_loop, of_lightning])
def test_what_a_loop_or_lightning_has_trained_is_explained_with_a_tokenizer(made: Any) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    objective, (ids, labels) = made(), arrays()
    influence, query = uw.Influence(objective, uw.inverse.Identity()), (ids[:1], labels[:1])
    found = uw.tasks.explain(influence, query, 5, tokens=tokenizer())
    table = found.to_pandas()
    assert table["text"].tolist() == [TEXTS[position] for position in table["position"]]
    assert table["side"].tolist() == ["helpful"] * 5 + ["harmful"] * 5
    (explained,) = found.tokens
    assert "".join(explained.tokens) == TEXTS[0]
    parted = influence.attribute(query, by="train-token")
    for each in explained.examples:
        parts = parted.of(0, each.position)
        assert "".join(each.tokens) == TEXTS[each.position]
        assert parts.train is not None
        torch.testing.assert_close(torch.as_tensor(each.by_token).float(), parts.train[: len(each.tokens)])
        assert f"{parts.remainder:+.3g} at no token" in each.apart  # the layer on the sum
    assert TEXTS[explained.examples[0].position].split()[0] in found.page().html()
    assert "Labelled 0; the model says" in found.page().html()


def test_loop_and_lightning_are_explained_alike() -> None:
    """The same model, moved to the same parameters."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    objective, (ids, labels) = of_a_loop(), arrays()
    other = of_lightning()
    found = [
        uw.tasks.explain(
            uw.Influence(each.at(objective.params), uw.inverse.Identity()), (ids[:1], labels[:1]), 3, tokens=tokenizer()
        )
        for each in (objective, other)
    ]
    for one, two in zip(found[0].tokens[0].examples, found[1].tokens[0].examples, strict=True):
        assert one.tokens == two.tokens
        assert one.by_token == pytest.approx(two.by_token, rel=1e-4, abs=1e-7)
    assert found[0].predicted == found[1].predicted


def test_what_a_trainer_has_trained_is_explained_by_its_own_tokenizer() -> None:
    objective = uw.from_trainer(trainer(llama(), rows(), data_collator=next_tokens()))
    influence = uw.Influence(objective, uw.inverse.Dual(damping=0.1))
    own, given = (uw.tasks.explain(influence, ["a b c"], 2, tokens=tokens) for tokens in (True, tokenizer()))
    assert repr(own.tokens) == repr(given.tokens)
    assert "".join(own.tokens[0].tokens) == "a b c"


def test_padding_and_what_a_decoder_makes_itself_have_no_number() -> None:
    batch = {"input_ids": torch.tensor([[3, 4, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    fields = Field("input_ids", 0, 3), Field(MADE, 3, 5)
    assert token_numbers(batch, fields).tolist() == [3, 4, PADDING, MADE_UP, MADE_UP]
    assert token_numbers((torch.tensor([[5, 6]]), torch.tensor([1])), [Field("0", 0, 2)]).tolist() == [5, 6]
