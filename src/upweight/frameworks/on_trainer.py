"""The callback that records a training of transformers' `Trainer`; imports transformers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from upweight.errors import InputError
from upweight.frameworks.recorded import Recorded
from upweight.wrappers import unwrapped_optimizer


class TrainerRecorder(import_module("transformers").TrainerCallback):  # type: ignore[misc]
    """See `upweight.trainer_recorder`."""

    def __init__(self, recorded: Recorded):
        self.recorded = recorded
        self._rates: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The loader is there, and no batch was taken from it."""
        if getattr(args, "deepspeed", None) or getattr(args, "fsdp", None):
            raise InputError(
                "args: FSDP and DeepSpeed shard parameters over processes, of which each holds a part; a recorder "
                "keeps whole ones (one device, DataParallel or DistributedDataParallel)"
            )
        loader = given["train_dataloader"]
        self.recorded.begin(given["model"], given["optimizer"], state.global_step)
        self.recorded.order.watch(loader)
        self.recorded.order.skip(_passed_over(args, state, loader))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Before the scheduler changes the rates; a step that gradient scaling left out had none."""
        optimizer = given["optimizer"]
        is_left_out = bool(getattr(optimizer, "step_was_skipped", False))
        groups = unwrapped_optimizer(optimizer).param_groups
        self._rates = [0.0 if is_left_out else float(group["lr"]) for group in groups]

    def on_substep_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """A batch whose gradient is accumulated."""
        self.recorded.batch()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The last batch of a step."""
        self.recorded.batch()
        self.recorded.step(self._rates)
        if control.should_save:
            self.recorded.flush()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Where the best model is loaded at the end, the last θ is there now and not then."""
        if args.load_best_model_at_end:
            self.recorded.keep()
        elif control.should_save:
            self.recorded.flush()

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """A checkpoint that somebody else asked for."""
        self.recorded.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """What came after the last checkpoint."""
        self.recorded.end()


def _passed_over(args: Any, state: Any, loader: Any) -> int:
    """Batches of the first epoch that `Trainer` passes over, where it goes on from a checkpoint."""
    if not state.global_step or args.ignore_data_skip:
        return 0
    try:
        count = len(loader)
    except TypeError:  # data without length, whose order can't be told either
        return 0
    accumulated = args.gradient_accumulation_steps
    return (state.global_step % max(-(-count // accumulated), 1)) * accumulated
