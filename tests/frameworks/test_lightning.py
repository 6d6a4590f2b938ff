"""`from_lightning`: what a real Trainer of Lightning did in a step over all data is the objective's gradient."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import upweight as uw
from languages import TEXTS, flat, llama, tokenizer
from upweight.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

N, RATE = 12, 0.1
X, Y = torch.randn(N, 4, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3


class Classifier(lightning.LightningModule):
    def __init__(self, decay: float = 0.0, adaptive: bool = False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.0), nn.Linear(5, 3))
        self.decay, self.adaptive = decay, adaptive

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y, label_smoothing=0.1)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        if self.adaptive:
            return torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=self.decay)
        return torch.optim.SGD(self.parameters(), lr=RATE, weight_decay=self.decay)


class Prepared(Classifier):
    """The step does something to its inputs and weighs classes; there is no forward to speak of."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return {"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 4.0]))(self.net(2 * x - 1), 2 - y)}


class Regression(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self(x)[:, 0], y.float())


class Penalised(Classifier):
    """A further term that belongs to no example."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + self.net[0].weight.square().sum()


class Writer(Classifier):
    """A language model whose own loss is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.net = llama()

    def forward(self, **batch: Tensor) -> Any:
        return self.net(**batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(**batch).loss


def fitted(module: Any, loader: Any, steps: int = 1) -> tuple[Any, Tensor]:
    """The module after some steps, and θ before them."""
    before = flat(module.parameters())
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, devices=1,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module, before


def pairs() -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=N, shuffle=True)


def sentences() -> DataLoader[Any]:
    made = tokenizer()(TEXTS, padding=True, return_tensors="pt")
    labels = torch.where(made["attention_mask"] > 0, made["input_ids"], -100)
    every = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(made["input_ids"], made["attention_mask"], labels, strict=True)
    ]
    return DataLoader(every, batch_size=len(every))  # type: ignore[arg-type]


CASES = {
    "classes": (Classifier, pairs, uw.losses.CrossEntropy),
    "prepared": (Prepared, pairs, uw.losses.Function),
    "numbers": (Regression, pairs, uw.losses.Function),
    "next tokens": (Writer, sentences, uw.losses.CausalLM),
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_over_all_data_is_the_gradient(name: str) -> None:
    kind, loader, loss = CASES[name]
    torch.manual_seed(0)
    module = kind()
    objective = uw.from_lightning(module, loader())
    assert isinstance(objective.loss, loss)
    module, before = fitted(module, loader())
    step = (before - flat(module.parameters())) / RATE
    assert float((objective.gradient() - step).norm()) < 1e-4 * float(step.norm())


def test_data_and_optimiser_are_the_trainers_and_its_module_stays_as_it_is() -> None:
    module, _ = fitted(Classifier(0.1, adaptive=True), pairs(), 3)
    trainer = module.trainer
    module.train()
    objective = uw.from_lightning(module, columns={"number": list(range(N))})
    assert module.trainer is trainer
    assert module.training
    assert "log" not in vars(module)
    expected = uw.l2_of(trainer.optimizers[0], module)
    found = {key: float(part.max()) for key, part in objective.layout.unflatten(objective.l2).items()}
    assert found == pytest.approx(expected)
    assert any("0.1 of AdamW is decoupled" in note for note in objective.notes)
    assert any("order of examples" in note for note in objective.notes)
    table = uw.Influence(objective).attribute((X[:2], Y[:2])).top(5).to_pandas(objective.columns)
    assert table["number"].tolist() == table["position"].tolist()


def test_without_a_trainer_the_module_says_its_decay() -> None:
    objective = uw.from_lightning(Classifier(0.01), pairs())
    assert torch.equal(objective.l2, torch.full_like(objective.l2, 0.01))
    with pytest.raises(InputError, match=r"optimizer: it has no state of 'net.0.weight'"):
        uw.from_lightning(Classifier(0.01, adaptive=True), pairs())


@pytest.mark.usefixtures("unchecked")
def test_what_can_t_be_read_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"loss: what training_step returns can't be split by example.*give loss="):
        uw.from_lightning(Penalised(), pairs())
    assert uw.from_lightning(Penalised(), pairs(), loss=uw.losses.CrossEntropy()).n == N
    with pytest.raises(InputError, match="data: neither a trainer nor the module has a train_dataloader"):
        uw.from_lightning(Classifier())
    with pytest.raises(InputError, match="module: give a LightningModule, with a training_step"):
        uw.from_lightning(nn.Linear(2, 2), pairs())
