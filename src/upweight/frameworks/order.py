"""Which examples a loader hands out, written down as it does: its sampler is watched, and gives what it gave before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

PLACES = ("batch_sampler", "sampler")


class Watched(BatchSampler):
    """A sampler in whose place it stands: everything of it is that one's, and ``seen`` gets what it yields.

    Attributes
    ----------
    inner
        The sampler itself.
    seen
        What was yielded and not yet taken, of the last time it was gone through.
    counts
        Whether it is gone through for training, asked when that begins.
    """

    def __init__(self, inner: Any, counts: Callable[[], bool]):
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "seen", deque())
        object.__setattr__(self, "counts", counts)

    def __iter__(self) -> Iterator[Any]:
        if not self.counts():
            yield from self.inner
            return
        self.seen.clear()
        for chosen in self.inner:
            self.seen.append(chosen)
            yield chosen

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "inner"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)


class Order:
    """The examples of a training's batches, as its loader hands them out.

    Attributes
    ----------
    why
        Why they can't be told; "" where they can.
    """

    def __init__(self) -> None:
        self.why = "no loader was seen"
        self.loader: Any = None
        self._watched: Watched | None = None
        self._skipped = 0

    def watch(self, loader: Any, counts: Callable[[], bool] = lambda: True) -> None:
        """From now on; the loader is as it was after `leave`."""
        self.leave()
        self.loader, self.why = loader, _unknown(loader)
        if not self.why:
            base, place = _place(loader)
            self._watched = Watched(getattr(base, place), counts)
            # A loader refuses another sampler once it is made: torch.utils.data.DataLoader.__setattr__.
            object.__setattr__(base, place, self._watched)

    def leave(self) -> None:
        """Give the loader its own sampler back."""
        if self._watched is not None:
            base, place = _place(self.loader)
            if getattr(base, place) is self._watched:
                object.__setattr__(base, place, self._watched.inner)
        self.loader, self._watched = None, None

    def skip(self, batches: int) -> None:
        """The next batches are passed over, not trained on."""
        self._skipped = batches

    def take(self) -> list[int] | None:
        """Positions of the next batch's examples; None where they can't be told."""
        if self._watched is None:
            return None
        seen = self._watched.seen
        while self._skipped and seen:
            seen.popleft()
            self._skipped -= 1
        found = seen.popleft() if seen else None
        found = [found] if isinstance(found, int) else found
        if isinstance(found, torch.Tensor):
            found = found.tolist()
        if not isinstance(found, list | tuple) or not all(isinstance(each, int) for each in found):
            self.why = "its sampler gives something else than positions"
            self.leave()
            return None
        return list(found)


def _place(loader: Any) -> tuple[Any, str]:
    """The loader of torch's within accelerate's, and where it holds what it takes its batches from."""
    base = getattr(loader, "base_dataloader", loader)
    return base, "sampler" if base.batch_sampler is None else "batch_sampler"


def _unknown(loader: Any) -> str:
    """Why it can't be told what a loader hands out; "" where it can."""
    if not isinstance(loader, DataLoader):
        return f"the data come from {type(loader).__name__}, which is no DataLoader"
    if isinstance(loader.dataset, IterableDataset):
        return "the data are an IterableDataset, whose examples have no positions"
    if loader.num_workers and not getattr(loader, "in_order", True):
        return "the loader has in_order=False, so that batches come as workers finish them"
    if any("Dispatcher" in kind.__name__ for kind in type(loader).__mro__):
        return "one process reads the batches of all (dispatch_batches)"
    return ""
