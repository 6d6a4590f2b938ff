"""20 Newsgroups: messages of twenty Usenet groups, split by date, as letters and spaces alone.

The package holds the texts as Ana Cardoso Cachopo prepared them: subject and body in lower case, everything but letters
made a space. So they have no punctuation, no numbers and no lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo

_MEMBERS = {f"orangecontrib/text/datasets/20newsgroups-{split}.tab": f"{split}.tab" for split in ("train", "test")}
_HEADS = 3


@dataclass(frozen=True, eq=False)
class Newsgroups:
    """Messages with their groups.

    Attributes
    ----------
    info
        The data set's entry in the registry, with the names of the groups.
    train_texts, test_texts
        Subject and body of each message.
    train_labels, test_labels
        int64 [n], label k means ``classes[k]``.
    """

    info: DatasetInfo
    train_texts: tuple[str, ...]
    train_labels: npt.NDArray[np.int64]
    test_texts: tuple[str, ...]
    test_labels: npt.NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, ...]:
        """The groups' names, in alphabetical order."""
        return self.info.classes


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Keep the two tables as they are."""
    for path, content in members(archives[0], _MEMBERS.__contains__):
        (entry / _MEMBERS[path]).write_bytes(content)


def read(entry: Path, info: DatasetInfo) -> Newsgroups:
    """The messages of a cache entry, in the package's order.

    Raises
    ------
    ValueError
        If a table names a group that isn't among the registry's classes.
    """
    train_texts, train_labels = _table(entry / "train.tab", info.classes)
    test_texts, test_labels = _table(entry / "test.tab", info.classes)
    return Newsgroups(info, train_texts, train_labels, test_texts, test_labels)


def _table(path: Path, classes: tuple[str, ...]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Texts and labels: below three lines of heads a line for each message, its group and its text."""
    lines = path.read_text(encoding="utf-8").split("\n")[_HEADS:]
    rows = [line.split("\t") for line in lines if line]
    labels = np.array([classes.index(group) for group, _ in rows], np.int64)
    return tuple(text for _, text in rows), labels
