"""`lightning_recorder`: a plain loop over the order and the rates that it wrote down is the training itself."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import upweight as uw
from upweight.errors import InputError
from upweight.store import Memory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning
    import pytorch_lightning

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
N, EVERY = 14, 3
X, Y = torch.randn(N, 4, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3


QUIET: dict[str, Any] = {
    "max_epochs": 2, "accumulate_grad_batches": 2, "accelerator": "cpu", "logger": False, "devices": 1,
    "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip


class Classifier(lightning.LightningModule):
    """Two groups with rates of their own, a buffer that changes, and a scheduler that goes by steps."""

    def __init__(self, kind: str = "sgd"):
        super().__init__()
        self.kind = kind
        self.net = nn.Sequential(nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def groups(self) -> Any:
        return [
            {"params": self.net[0].parameters(), "lr": 0.02},
            {"params": [*self.net[1].parameters(), *self.net[3].parameters()]},
        ]

    def configure_optimizers(self) -> Any:
        if self.kind == "sgd":
            made: Any = torch.optim.SGD(self.groups(), lr=0.1, momentum=0.5)
        else:
            made = torch.optim.AdamW(self.groups(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(made, 0.9)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Killing(lightning.Callback):
    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True, **options)


def fitted(place: Any, module: Any, data: Any, *more: Any, resume: Any = None, **options: Any) -> Any:
    made = lightning.Trainer(callbacks=[uw.lightning_recorder(place, every=EVERY), *more], **QUIET | options)
    torch.manual_seed(7)
    made.fit(module, data, ckpt_path=resume, val_dataloaders=data if "limit_val_batches" in options else None)
    return made


def repeated(module: Any, run: uw.Recording, place: Any) -> None:
    """The training once more, step by step, from the order that was recorded; recorded by hand."""
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    module.train()
    with uw.Recorder(place, module, optimizer, every=EVERY) as recorder:
        for chosen in run.order:
            optimizer.zero_grad()
            for part in torch.tensor(chosen).split(2):  # batch-norm sees one batch at a time
                (F.cross_entropy(module(X[part]), Y[part]) / 2).backward()
            optimizer.step()
            recorder.step(chosen)
            schedule.step()


def same(found: uw.Recording, expected: uw.Recording) -> None:
    """Two recordings of the same training, to rounding."""
    assert found.steps == expected.steps
    assert found.rates.tolist() == pytest.approx(expected.rates.tolist())
    assert [step.tolist() for step in found.order] == [step.tolist() for step in expected.order]
    metrics = zip(found.metrics or [], expected.metrics or [], strict=True)
    for one, other in [*zip(found.checkpoints, expected.checkpoints, strict=True), *metrics]:
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(value.float(), other[name].float(), rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "options", [{}, {"limit_val_batches": 1.0, "val_check_interval": 2}, {"limit_train_batches": 5}]
)
def test_a_plain_loop_recorded_by_hand_is_the_same(kind: str, options: dict[str, Any]) -> None:
    place, by_hand, data = Memory(), Memory(), loader()
    module = Classifier(kind)
    begun, sampler = copy.deepcopy(module), data.batch_sampler
    fitted(place, module, data, **options)
    assert data.batch_sampler is sampler  # the loader is as it was, though validation used it too
    run = uw.Recording.open(place)
    last = run.checkpoints[-1]
    assert last.keys() == module.state_dict().keys()
    assert all(torch.equal(value, last[name]) for name, value in module.state_dict().items())
    batches = options.get("limit_train_batches", 7)
    steps = -(-batches // 2)
    assert [len(step) for step in run.order] == ([4] * (steps - 1) + [2]) * 2
    for epoch in range(2):
        met = [int(i) for step in run.order[steps * epoch : steps * (epoch + 1)] for i in step]
        assert len(set(met)) == 2 * batches
    repeated(begun, run, by_hand)
    same(run, uw.Recording.open(by_hand))
    assert run.rates.tolist() == pytest.approx([0.1 * 0.9**step for step in range(2 * steps)])


def test_workers_that_fetch_ahead_change_nothing() -> None:
    alone, ahead = Memory(), Memory()
    for place, options in ((alone, {}), (ahead, {"num_workers": 1, "prefetch_factor": 3, "persistent_workers": True})):
        torch.manual_seed(0)
        fitted(place, Classifier(), loader(**options))
    run = uw.Recording.open(ahead)
    for epoch in (run.order[:4], run.order[4:]):
        assert sorted(int(i) for step in epoch for i in step) == list(range(N))
    by_hand = Memory()
    torch.manual_seed(0)
    repeated(Classifier(), run, by_hand)
    same(run, uw.Recording.open(by_hand))


def test_groups_with_other_rates_and_momentum_count_by_what_they_moved() -> None:
    place = Memory()
    module = Classifier()
    fitted(place, module, loader())
    run = uw.Recording.open(place)
    assert run.metrics is not None
    assert {name: value.unique().tolist() for name, value in run.metrics[0].items()} == {
        name: pytest.approx([5.0 if name.startswith("net.0.") else 1.0]) for name, _ in module.named_parameters()
    }
    # Momentum ½ steps along a gradient twice.
    assert run.learning_rates(N) == pytest.approx(
        [2 * sum(run.rates[:3]) / N, 2 * sum(run.rates[3:6]) / N, 2 * sum(run.rates[6:]) / N]
    )
    objective = uw.from_lightning(module)
    queries = (X[:2], Y[:2])
    found = uw.TracIn.from_recording(objective, run).attribute(queries).scores
    expected = torch.zeros(2, N)
    for rate, state in zip(run.learning_rates(N), run.checkpoints, strict=True):
        at = copy.deepcopy(module)
        at.load_state_dict(state)
        rows = torch.cat([part for _, part in uw.from_lightning(at, loader()).example_gradients()])
        scale = objective.layout.flatten(
            {n: torch.full_like(v, 0.2 if n.startswith("net.0.") else 1.0) for n, v in at.named_parameters()}
        )
        expected += rate * (rows[:2] * scale) @ rows.T
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_training_that_was_killed_goes_on_with_its_recording(tmp_path: Path) -> None:
    whole, parts = Memory(), Memory()

    def once(place: Memory, *more: Any, resume: Any = None) -> None:
        torch.manual_seed(0)
        own = DistributedSampler(range(N), num_replicas=1, rank=0)  # its order is that of the epoch's number
        data: DataLoader[Any] = DataLoader(TensorDataset(X, Y), batch_size=2, sampler=own)
        fitted(place, Classifier("adamw"), data, *more, resume=resume, max_epochs=3, enable_checkpointing=bool(more))

    once(whole)
    saving = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, every_n_epochs=1)
    with pytest.raises(RuntimeError, match="killed"):
        once(parts, saving, Killing(7))
    assert uw.Recording.open(parts).steps == [3, 6]
    once(parts, resume=tmp_path / "epoch=0.ckpt")
    same(uw.Recording.open(parts), uw.Recording.open(whole))


def test_it_is_a_callback_of_what_is_in_use_and_leaves_the_trainer_as_it_was() -> None:
    made = uw.lightning_recorder(Memory())
    assert isinstance(made, lightning.Callback)
    assert isinstance(made, pytorch_lightning.Callback)
    data = loader()
    sampler = data.batch_sampler
    stopped = lightning.Trainer(callbacks=[made, Killing(1)], **QUIET)
    with pytest.raises(RuntimeError, match="killed"):
        stopped.fit(Classifier(), data)
    assert data.batch_sampler is sampler
    assert "process_dataloader" not in vars(stopped.strategy)


@pytest.mark.usefixtures("unchecked")
def test_what_cant_be_recorded_is_refused_before_a_step() -> None:
    by_hand = Classifier()
    by_hand.automatic_optimization = False
    with pytest.raises(InputError, match=r"module: it optimises by hand .*uw.Recorder"):
        fitted(Memory(), by_hand, loader(), accumulate_grad_batches=1)
    place = Memory()
    fitted(place, Classifier(), loader())
    with pytest.raises(InputError, match=r"holds a recording of 8 steps, and this training begins at none"):
        fitted(place, Classifier(), loader())


def test_an_order_that_several_loaders_have_together_is_refused_where_scores_need_it() -> None:
    class Both(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch["a"], batch_idx)

    place = Memory()
    fitted(place, Both(), {"a": loader(), "b": loader()})
    run = uw.Recording.open(place)
    assert len(run.learning_rates(N)) == len(run) == 3
    with pytest.raises(
        InputError, match=r"order: the examples of step 1 weren't recorded \(a batch is made of those of"
    ):
        run.example_rates(N)


def test_a_step_that_gradient_scaling_left_out_has_no_rate() -> None:
    class Scaled(lightning.Callback):
        """As the plugin for 16 bits: the scale falls where a step was left out."""

        scale = 4.0

        def on_train_start(self, trainer: Any, *_: Any) -> None:
            self.steps = 0
            trainer.precision_plugin.scaler = self

        def get_scale(self) -> float:
            return self.scale

        def on_before_optimizer_step(self, *_: Any) -> None:
            self.steps += 1
            if self.steps == 4:  # after the recorder has looked
                self.scale = 2.0

    place = Memory()
    fitted(place, Classifier(), loader(), Scaled(), accumulate_grad_batches=1, max_epochs=1)
    rates = uw.Recording.open(place).rates
    assert (rates == 0).sum() == 1
    assert len(rates) == 7
