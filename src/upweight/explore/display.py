"""What a page shows beside scores, kept in the store: what the model says of examples, their columns and pictures.

A store has it in columns under one description, ``display.json``, which is written last. A store without one is shown
by positions, ids and its own columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.explore.decisions import belongs_to
from upweight.explore.examples import LABEL, Examples
from upweight.store import columns
from upweight.store.backend import Backend
from upweight.store.blocks import Blocks
from upweight.store.description import described
from upweight.store.sealed import seal, unseal
from upweight.stored import Stored

NAME = "display.json"
FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """Where a store's data and model come from, so that they can be made again.

    Attributes
    ----------
    kind
        ``study`` or ``csv``.
    path
        Of the file, whole.
    folder
        In which it was read.
    digest
        What tells the file from another version of it.
    options
        Of a CSV: target, columns, seed; of JSON's kinds.
    """

    kind: str
    path: str
    folder: str
    digest: str
    options: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Display:
    """What is kept of the examples of a store.

    Attributes
    ----------
    title, noun
        What the page is about, and what an example is called.
    class_names
        In order of their numbers; None where there are none.
    unit
        Of losses.
    suspicion
        What the suspicion of a label is, in words; "" where there is none.
    origin
        Where model and data come from.
    train, queries
        The examples.
    tokens
        Of each query, what `upweight.explore.coloured` made of it; None where nothing.
    """

    title: str
    noun: str
    class_names: tuple[str, ...] | None
    unit: str
    suspicion: str
    origin: Origin | None
    train: Examples
    queries: Examples
    tokens: Any = None

    def keep(self, place: Backend) -> None:
        """Put it into a store, in place of what was there.

        Raises
        ------
        InputError
            If there is no store, or a column can't be kept.
        upweight.files.NotWrittenError
            If it can't be written.
        """
        said = described(place)
        assert said is not None
        blocks = Blocks(place)
        sides: dict[str, Any] = {}
        for side, examples in (("train", self.train), ("queries", self.queries)):
            names: dict[str, Any] = {}
            for group, found in (("facts", examples.facts), ("own", examples.own)):
                names[group] = {
                    name: columns.write(
                        blocks, f"display-{side}-{group}-{number}", columns.checked(name, values, len(examples))
                    )
                    for number, (name, values) in enumerate(found.items())
                }
            pictures = examples.pictures
            names["pictures"] = (
                None if pictures is None else columns.write_bytes(blocks, f"display-{side}-pictures", list(pictures))
            )
            sides[side] = names
        if self.tokens is not None:
            sides["tokens"] = columns.write_bytes(blocks, "display-tokens", list(self.tokens))
        rest = {name: getattr(self, name) for name in ("title", "noun", "unit", "suspicion")}
        rest |= {
            "class_names": None if self.class_names is None else list(self.class_names),
            "origin": None if self.origin is None else vars(self.origin),
        }
        place.write(NAME, seal({"format": FORMAT, "store": belongs_to(said), **rest, **sides}))


def kept(stored: Stored) -> Display | None:
    """What a store keeps of its examples; None where that is nothing. Pictures are read where they are asked for.

    Raises
    ------
    InputError
        If it was cut or altered, or is of other examples.
    """
    place = stored.backend
    content = place.read(NAME)
    if content is None:
        return None
    said = unseal(content)
    if said is None or said.get("format") != FORMAT:
        raise InputError(
            f"store: {NAME} in {place} was cut or altered, or is of another version; `upweight explore STUDY.py "
            f"--store {place}` makes it anew"
        )
    if said["store"] != belongs_to(stored.said):
        raise InputError(
            f"store: {NAME} in {place} is of other training examples; `upweight explore STUDY.py --store {place}` "
            "makes it anew"
        )
    blocks = Blocks(place)
    origin = None if said["origin"] is None else Origin(**said["origin"])
    names = None if said["class_names"] is None else tuple(said["class_names"])
    train = _side(blocks, said["train"], stored.ids.all())
    own = {name: column for name, column in _store_columns(stored).items() if name not in train.own}
    train.own.update({name: values for name, values in own.items() if name != LABEL or LABEL not in train.facts})
    return Display(
        said["title"], said["noun"], names, said["unit"], said["suspicion"], origin,
        train, _side(blocks, said["queries"], query_ids(stored)), _files(blocks, said.get("tokens")),
    )  # fmt: skip


def bare(stored: Stored) -> Display:
    """What is to be shown of a store that keeps no more than scores, ids and columns."""
    own = _store_columns(stored)
    facts = {LABEL: own.pop(LABEL)} if LABEL in own else {}
    train = Examples(stored.ids.all(), facts, own)
    return Display(
        str(stored.backend), "example", None, stored.quantity.unit, "", None, train, Examples(query_ids(stored))
    )


def query_ids(stored: Stored) -> np.ndarray:
    """Names of the queries: none of self-influence."""
    return stored.query_ids if len(stored.shape) > 1 else np.array([], dtype=np.int64)


def _store_columns(stored: Stored) -> dict[str, np.ndarray]:
    return {name: _read(column) for name, column in stored.columns.items()}


def _read(column: columns.Column) -> np.ndarray:
    """Texts as objects: one long entry would make all the others as long."""
    if column.said["kind"] != "text":
        return column.all()
    found = np.empty(len(column), dtype=object)
    found[:] = column.entries()
    return found


def _side(blocks: Blocks, said: dict[str, Any], ids: np.ndarray) -> Examples:
    def read(group: str) -> dict[str, np.ndarray]:
        return {name: _read(columns.Column(blocks, each)) for name, each in said[group].items()}

    return Examples(ids, read("facts"), read("own"), _files(blocks, said["pictures"]))


def _files(blocks: Blocks, said: dict[str, Any] | None) -> Files | None:
    return None if said is None else Files(columns.Column(blocks, said))


@dataclass(frozen=True, eq=False)
class Files(Sequence[bytes]):
    """Images or other files of a store, each read where it is asked for."""

    column: columns.Column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, position: Any) -> Any:
        return self.column[np.array([position])][0]
