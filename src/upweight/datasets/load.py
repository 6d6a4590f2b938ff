"""Loading a data set by name, fetching it first where needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload, runtime_checkable

from upweight.datasets import (
    adult,
    cache,
    cifar10,
    digits,
    minilm,
    mnist,
    newsgroups,
    pretrained_files,
    registry,
    shakespeare,
    spam_assassin,
    support2,
)
from upweight.datasets.dataset import Dataset
from upweight.datasets.fetch import ensure
from upweight.datasets.minilm import PretrainedFolder
from upweight.datasets.newsgroups import Newsgroups
from upweight.datasets.pretrained_files import PretrainedFiles
from upweight.datasets.registry import DatasetInfo
from upweight.datasets.shakespeare import Plays
from upweight.datasets.spam_assassin import Emails

if TYPE_CHECKING:
    import pandas as pd

Arrays = Literal["digits", "mnist", "fashion-mnist", "cifar10"]
Tables = Literal["support2", "adult"]


@runtime_checkable
class _Reader(Protocol):
    """What the module of each fetched data set provides."""

    def convert(self, archives: Sequence[Path], entry: Path) -> None: ...

    def read(self, entry: Path, info: DatasetInfo) -> Any: ...


_READERS: dict[str, _Reader] = {
    "mnist": mnist,
    "fashion-mnist": mnist,
    "cifar10": cifar10,
    "spam-assassin": spam_assassin,
    "support2": support2,
    "adult": adult,
    "shakespeare": shakespeare,
    "20-newsgroups": newsgroups,
    "minilm-l6": minilm,
    "efficientnet-lite0": pretrained_files,
}


def fetch(name: str, *, progress: bool = True) -> Path:
    """Return where a data set lies on disk, fetching it first if it is not in the cache.

    Safe to call from several processes at once; see ``load`` for the errors.

    Parameters
    ----------
    name : one of ``names()``
    progress : show a progress bar while fetching, if standard error is a terminal
    """
    info = registry.info(name)
    if not info.archives:
        return digits.location(info)
    return ensure(info, _READERS[name].convert, show=progress)


def is_cached(name: str) -> bool:
    """Whether loading the data set needs no download. Looks at the files' sizes, not at their content.

    Parameters
    ----------
    name : one of ``names()``

    Raises
    ------
    UnknownDataset
        If there is no data set of this name.
    """
    info = registry.info(name)
    return cache.is_complete(cache.entry_path(info)) if info.archives else digits.is_installed()


@overload
def load(name: Arrays, *, progress: bool = ...) -> Dataset: ...
@overload
def load(name: Tables, *, progress: bool = ...) -> pd.DataFrame: ...
@overload
def load(name: Literal["spam-assassin"], *, progress: bool = ...) -> Emails: ...
@overload
def load(name: Literal["shakespeare"], *, progress: bool = ...) -> Plays: ...
@overload
def load(name: Literal["20-newsgroups"], *, progress: bool = ...) -> Newsgroups: ...
@overload
def load(name: Literal["minilm-l6"], *, progress: bool = ...) -> PretrainedFolder: ...
@overload
def load(name: Literal["efficientnet-lite0"], *, progress: bool = ...) -> PretrainedFiles: ...
@overload
def load(name: str, *, progress: bool = ...) -> Any: ...
def load(name: str, *, progress: bool = True) -> Any:
    """Load a data set, fetching it first if it is not in the cache.

    Parameters
    ----------
    name : one of ``names()``
    progress : show a progress bar while fetching, if standard error is a terminal

    Returns
    -------
    ``Dataset`` for images (``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``), a pandas table for
    ``support2`` and ``adult``, ``Emails`` for ``spam-assassin``, ``Plays`` for ``shakespeare``,
    ``Newsgroups`` for ``20-newsgroups``, ``PretrainedFolder`` for ``minilm-l6``,
    ``PretrainedFiles`` for ``efficientnet-lite0``.

    Raises
    ------
    UnknownDataset
        If there is no data set of this name.
    DataUnavailable
        If it is not in the cache and cannot be had; the message says what was tried and how to mend it.
    ChecksumMismatch
        If the package that arrived is not the pinned one (a kind of ``DataUnavailable``).
    """
    info = registry.info(name)
    if not info.archives:
        return digits.read(info)
    return _READERS[name].read(fetch(name, progress=progress), info)
