"""What every metric does: gather by ``update``, judge by ``compute``, and keep its state, as torchmetrics do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from upweight.errors import InputError

Record = dict[str, Tensor]


class Metric(ABC):
    """A figure of merit gathered over any number of updates.

    Subclasses give ``update``, which keeps a record, and ``compute``, which judges all of them. Updates of a few
    queries each, one update of all, and the merged metrics of several processes give the same result.
    """

    def __init__(self) -> None:
        self._records: list[Record] = []

    @abstractmethod
    def compute(self) -> Any:
        """The result over all updates."""

    @abstractmethod
    def settings(self) -> Record:
        """What the records depend on; only metrics that agree in it can be merged."""

    def reset(self) -> None:
        """Forget every update."""
        self._records = []

    def merge(self, other: Metric) -> None:
        """Take over the updates of another metric, after one's own.

        Raises
        ------
        InputError
            If it is a metric of another kind, or has other settings, such as the subsets, which are named.
        """
        if type(other) is not type(self):
            raise InputError(f"other: got {type(other).__name__}; a {type(self).__name__} merges with its like")
        self._refuse_other(other.settings(), "other")
        self._records = [*self._records, *other._records]

    def state_dict(self) -> dict[str, Any]:
        """Every update as tensors, for ``torch.save``."""
        return {"settings": self.settings(), "records": [dict(record) for record in self._records]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the updates of a saved metric in place of one's own.

        Raises
        ------
        InputError
            If it isn't what `state_dict` gives, or is of a metric with other settings, which are named.
        """
        if set(state) != {"settings", "records"}:
            raise InputError(f"state: expected what state_dict() gives; got {sorted(state)}")
        self._refuse_other(state["settings"], "state")
        self._records = [dict(record) for record in state["records"]]

    def _refuse_other(self, settings: Record, name: str) -> None:
        own = self.settings()
        if own.keys() != settings.keys():
            raise InputError(f"{name}: has settings {sorted(settings)}, but {type(self).__name__} has {sorted(own)}")
        differing = [key for key, value in own.items() if not torch.equal(value, settings[key])]
        if differing:
            raise InputError(f"{name}: was made with other {', '.join(differing)}; records can't be put together")

    def _updates(self) -> list[Record]:
        if not self._records:
            raise InputError(f"{type(self).__name__}.compute: call update(…) first; there is nothing to judge")
        return self._records

    def _gathered(self, name: str) -> Tensor:
        """One entry of all records, along their first dimension."""
        return torch.cat([record[name] for record in self._updates()])
