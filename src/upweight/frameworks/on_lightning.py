"""The callback that records a training of Lightning's `Trainer`; imports Lightning, under the name it is used by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from upweight.errors import InputError
from upweight.frameworks.recorded import Recorded

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""Two packages with the same content and other classes."""
SHARDING = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


def _bases() -> tuple[Any, ...]:
    """`Callback` of the packages that are in use; of the first one there is if none is."""
    used = [name for name in PACKAGES if name in sys.modules]
    for name in used or PACKAGES:
        try:
            used = used or [name]
            found = tuple(import_module(f"{each}.callbacks").Callback for each in used)
        except ModuleNotFoundError:
            used = []
            continue
        return tuple(dict.fromkeys(found))
    raise ModuleNotFoundError(f"No module named {PACKAGES[0]!r}", name=PACKAGES[0])


class LightningRecorder(*_bases()):  # type: ignore[misc]
    """See `upweight.lightning_recorder`."""

    def __init__(self, recorded: Recorded):
        super().__init__()
        self.recorded = recorded
        self._rates: list[float] = []
        self._scale: float | None = None
        self._put_back: Callable[[], None] = lambda: None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Before loaders are made: each one for training is watched from its first batch on."""
        if stage != "fit":
            return
        if not pl_module.automatic_optimization:
            raise InputError(
                "module: it optimises by hand (automatic_optimization=False), and what a step is can't be seen; call "
                "uw.Recorder(...).step(positions) where the module takes its steps"
            )
        if type(trainer.strategy).__name__ in SHARDING:
            raise InputError(
                f"trainer: {type(trainer.strategy).__name__} shards parameters over processes, of which each holds a "
                "part; a recorder keeps whole ones (one device, or 'ddp')"
            )
        strategy, made = trainer.strategy, trainer.strategy.process_dataloader

        def watched(loader: Any) -> Any:
            found = made(loader)
            if trainer.training:
                self.recorded.order.watch(found, counts=lambda: trainer.training)
            return found

        def put_back() -> None:
            if strategy.__dict__.get("process_dataloader") is watched:
                del strategy.process_dataloader

        strategy.process_dataloader, self._put_back = watched, put_back

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Optimiser and loader are there, and no batch was taken."""
        if len(trainer.optimizers) != 1:
            raise InputError(
                f"module: it has {len(trainer.optimizers)} optimisers, and a recording is of one; call "
                "uw.Recorder(...).step(positions) where the module takes its steps"
            )
        self.recorded.begin(pl_module, trainer.optimizers[0], trainer.global_step)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Before the scheduler changes the rates."""
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._scale = _scale(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Several loaders at once are no one loader's batches."""
        order = self.recorded.order
        if order.loader is not None and trainer.train_dataloader is not order.loader:
            order.leave()
            order.why = "a batch is made of those of several loaders"

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A batch went through, and was the last of a step where the count of steps has grown."""
        self.recorded.batch()
        if trainer.global_step > self.recorded.steps:
            scale = _scale(trainer)
            is_left_out = scale is not None and self._scale is not None and scale < self._scale
            self.recorded.step([0.0] * len(self._rates) if is_left_out else self._rates)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """Before Lightning writes a checkpoint, from which the training may go on."""
        if self.recorded.begun:
            self.recorded.flush()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """What came after the last checkpoint."""
        self.recorded.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The loader gets its own sampler back."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the trainer as it was."""
        self.recorded.leave()
        self._put_back()


def _scale(trainer: Any) -> float | None:
    """What gradients of 16 bits are multiplied by; it falls when a step is left out."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return None if scaler is None else float(scaler.get_scale())
