"""`trainer_recorder` and `lightning_recorder`: callbacks that record a training for scores through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from upweight import scalars
from upweight.errors import MissingExtraError
from upweight.frameworks.recorded import Recorded
from upweight.recorder.recorder import Moments
from upweight.store.backend import Place, backend


def trainer_recorder(
    store: Place, *, every: int = 100, moments: Moments | None = "bfloat16", frozen: bool = True
) -> Any:
    """A callback that records what a `transformers.Trainer` does, for scores through the training.

    Every so many steps of the optimiser (accumulated batches are one) it keeps θ and what the steps divide by, and of
    every step the learning rates and the positions of its examples in ``train_dataset``, as the sampler gives them, on
    all processes together. A training that goes on from a checkpoint goes on with its recording; steps that are taken
    again are recorded again. Steps that gradient scaling left out have rate 0. With ``load_best_model_at_end`` θ is
    kept at each epoch's end too.

    Parameters
    ----------
    store
        A folder, a URL that fsspec knows, or one of `upweight.store`; the same for a training that goes on.
    every, moments, frozen
        As for `upweight.Recorder`.

    Returns
    -------
    transformers.TrainerCallback
        For ``trainer.add_callback``, in every process.

    Raises
    ------
    InputError
        If an argument is impossible; when training begins, if parameters are sharded (FSDP, DeepSpeed), the optimiser's
        steps have no metric, or the store holds another training.
    MissingExtraError
        If transformers isn't installed.

    Examples
    --------
    ::

        trainer.add_callback(uw.trainer_recorder("run", every=200))
        trainer.train()
        uw.TracIn.from_recording(uw.from_trainer(trainer), uw.Recording.open("run")).attribute(["a text"])
    """
    recorded = _recorded(store, every, moments, frozen)
    with _needs("transformers", "upweight.trainer_recorder"):
        from upweight.frameworks.on_trainer import TrainerRecorder
    return TrainerRecorder(recorded)


def lightning_recorder(
    store: Place, *, every: int = 100, moments: Moments | None = "bfloat16", frozen: bool = True
) -> Any:
    """A callback that records what Lightning's `Trainer` does, for scores through the training.

    As `trainer_recorder`: positions are those in the data set of the training loader. Lightning begins a loader anew
    where a training goes on within an epoch; what is recorded is what was trained on.

    Parameters
    ----------
    store
        A folder, a URL that fsspec knows, or one of `upweight.store`; the same for a training that goes on.
    every, moments, frozen
        As for `upweight.Recorder`.

    Returns
    -------
    lightning.pytorch.Callback
        For ``Trainer(callbacks=[…])``; of ``pytorch_lightning`` where that is in use.

    Raises
    ------
    InputError
        If an argument is impossible; when training begins, if the module has several optimisers or optimises by hand,
        parameters are sharded, the optimiser's steps have no metric, or the store holds another training.
    MissingExtraError
        If Lightning isn't installed.

    Examples
    --------
    ::

        trainer = lightning.Trainer(callbacks=[uw.lightning_recorder("run", every=200)])
        trainer.fit(module, loader)
        uw.TracIn.from_recording(uw.from_lightning(module), uw.Recording.open("run")).attribute(queries)
    """
    recorded = _recorded(store, every, moments, frozen)
    with _needs("lightning", "upweight.lightning_recorder"):
        from upweight.frameworks.on_lightning import LightningRecorder
    return LightningRecorder(recorded)


def _recorded(store: Place, every: int, moments: Moments | None, frozen: bool) -> Recorded:
    backend(store)  # refused now, not when training begins
    if moments is not None:
        scalars.one_of("moments", moments, get_args(Moments))
    return Recorded(store, scalars.whole("every", every), moments=moments, frozen=scalars.flag("frozen", frozen))


@contextmanager
def _needs(package: str, by: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"{by} needs {package}, which is not installed; pip install {package}", name=package
        ) from error
