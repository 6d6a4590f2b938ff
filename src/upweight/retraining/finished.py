"""Finished models on disk: one file each, named by the content of its subset and its seed.

A file (`store.kept_work`) holds tensors alone and is read without running any code.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from upweight.arrays import dense
from upweight.checks.arguments import refuse_meta
from upweight.errors import InputError, UpweightWarning, warn
from upweight.parameters import Layout, select
from upweight.retraining.fingerprint import UnknownContentError, fingerprint
from upweight.retraining.trained import constants_of
from upweight.store.kept_work import Folder
from upweight.wrappers import unwrapped

NO_MODEL = "holds no trained model; move it away, or give another folder"


@dataclass(frozen=True)
class Job:
    """One training: its number in the call, the positions of its examples, its seed, and its function's fingerprint."""

    number: int
    positions: Int[np.ndarray, " size"]
    seed: int
    train: str = ""

    @property
    def key(self) -> str:
        """Equal for the same subset in the same order with the same seed by the same training function."""
        subset = hashlib.sha256(self.positions.tobytes()).hexdigest()[:32]
        return "-".join(part for part in (subset, str(self.seed), self.train) if part)

    def __str__(self) -> str:
        shown = ", ".join(str(position) for position in self.positions[:4])
        more = ", …" if len(self.positions) > 4 else ""
        return f"job {self.number}, seed {self.seed}, on {len(self.positions):,} examples [{shown}{more}]"


@dataclass(frozen=True)
class State:
    """A trained model: θ, and by name what training left alone."""

    params: Float[Tensor, " p"]
    constants: Mapping[str, Tensor]


@dataclass(frozen=True)
class Form:
    """What the models of a run have in common: the layout of θ, and frozen parameters and buffers as given."""

    layout: Layout
    constants: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> Form:
        """The form of this module.

        Raises
        ------
        InputError
            If it is none, or one whose parameters have no numbers.
        """
        if not isinstance(model, nn.Module):
            raise InputError(f"model: give the architecture, an nn.Module with any parameters; got {model!r}")
        refuse_meta(model)
        layout = select(model, None)
        constants = {name: value.cpu().clone() for name, value in constants_of(model, layout).items()}
        return cls(layout, constants)

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of every parameter and buffer, by name."""
        own = {name: list(shape) for name, shape in zip(self.layout.names, self.layout.shapes, strict=True)}
        return {**own, **{name: list(value.shape) for name, value in self.constants.items()}}

    def state(self, result: Any) -> State:
        """What a training function returned, as a state on the processor.

        Raises
        ------
        InputError
            If it is neither a module of this form nor a vector [p], or its numbers are of another kind.
        """
        if isinstance(result, Tensor) and not result.is_nested and result.shape == (self.layout.p,):
            _refuse_kind("the vector", result)
            return State(result.detach().cpu().clone(), self.constants)
        if not isinstance(result, nn.Module):
            is_shaped = isinstance(result, Tensor) and not result.is_nested
            given = f"shape {tuple(result.shape)}" if is_shaped else type(result).__name__
            raise InputError(f"train: must return the trained module, or its parameters [{self.layout.p}]; got {given}")
        result = unwrapped(result)
        values = {**dict(result.named_parameters()), **dict(result.named_buffers())}
        lazy = [name for name, value in values.items() if is_lazy(value)]
        if lazy:
            raise InputError(
                f"train: {lazy[0]!r} that it returned has no shape yet; call the module on data, and train it"
            )
        different = {
            name for name, shape in self.shapes.items() if name not in values or list(values[name].shape) != shape
        } | (values.keys() - self.shapes.keys())
        if different:
            raise InputError(
                f"train: the module it returned differs from model in {sorted(different)[:4]}; give the same "
                "architecture as model"
            )
        for name, value in values.items():
            _refuse_kind(repr(name), value, self.constants.get(name))
        own = self.layout.flatten({name: values[name].detach().cpu() for name in self.layout.names})
        return State(own, {name: values[name].detach().cpu().clone() for name in self.constants})


def _refuse_kind(name: str, value: Tensor, like: Tensor | None = None) -> None:
    """Refuse what is no θ; of a buffer or a frozen parameter what the model's own couldn't hold."""
    if value.is_meta:
        raise InputError(f"train: {name} that it returned is on the meta device, which holds no numbers")
    if like is None and not value.is_floating_point():
        raise InputError(f"train: {name} that it returned is {value.dtype}; give real floating-point parameters")
    dense(value, f"train: {name} that it returned")
    if like is not None and not torch.can_cast(value.dtype, like.dtype):
        raise InputError(f"train: {name} that it returned is {value.dtype}, and {like.dtype} in model; give the same")


def pack(state: State, form: Form) -> bytes:
    """A state as the content of its file."""
    buffer = io.BytesIO()
    torch.save({"shapes": form.shapes, "params": state.params, "constants": dict(state.constants)}, buffer)
    return buffer.getvalue()


def unpack(content: bytes, form: Form) -> State:
    """The state in the content of a file.

    Raises
    ------
    InputError
        If it is not a state of this form; the message goes on from the file's name.
    """
    try:
        read = dict(torch.load(io.BytesIO(content), weights_only=True))
        shapes, params, constants = read["shapes"], read["params"], dict(read["constants"])
    except Exception as error:  # of pickle, zip or torch, by what it holds instead
        raise InputError(NO_MODEL) from error
    if shapes != form.shapes:
        raise InputError("holds a model of another architecture; give one folder to each kind of training")
    if not isinstance(params, Tensor) or params.shape != (form.layout.p,) or constants.keys() != form.constants.keys():
        raise InputError(NO_MODEL)
    return State(params, constants)


def kept_by(train: Any, folder: Folder | None) -> tuple[Folder | None, str]:
    """Where the models of a function are kept, and their name there; nowhere if it couldn't be known again."""
    if folder is None:
        return None, ""
    try:
        return folder, fingerprint(train)
    except UnknownContentError as error:
        warn(
            f"folder: train can't be told from another function that was here before, by what it uses ({error}); no "
            "model is kept or read. Make that inside train, or give what it holds as numbers, text or arrays",
            UpweightWarning,
        )
        return None, ""


def say_what_is_left(folder: Folder, name: str) -> None:
    """Warn of the models of other functions in a folder."""
    others = [file for file in folder.path.glob("*.pt") if not file.stem.endswith(f"-{name}")]
    if others:
        warn(
            f"folder: {len(others)} files in {folder.path} are models of another training function (its code or the "
            "values it uses differ), and are not used; remove them if you don't need them",
            UpweightWarning,
        )
