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

from upweight.messages import InputError
from upweight.parameters import Layout, select
from upweight.retraining.trained import constants_of


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
        """The form of this module."""
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
            If it is neither a module of this form nor a vector [p].
        """
        if isinstance(result, Tensor) and result.shape == (self.layout.p,):
            return State(result.detach().cpu().clone(), self.constants)
        if not isinstance(result, nn.Module):
            given = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise InputError(f"train: must return the trained module, or its parameters [{self.layout.p}]; got {given}")
        values = {**dict(result.named_parameters()), **dict(result.named_buffers())}
        different = {
            name for name, shape in self.shapes.items() if name not in values or list(values[name].shape) != shape
        } | (values.keys() - self.shapes.keys())
        if different:
            raise InputError(
                f"train: the module it returned differs from model in {sorted(different)[:4]}; give the same "
                "architecture as model"
            )
        own = self.layout.flatten({name: values[name].detach().cpu() for name in self.layout.names})
        return State(own, {name: values[name].detach().cpu().clone() for name in self.constants})


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
        If it is not a state of this form.
    """
    read = torch.load(io.BytesIO(content), weights_only=True)
    if read["shapes"] != form.shapes:
        raise InputError("folder: it holds models of another architecture; give one folder to each kind of training")
    return State(read["params"], read["constants"])
