"""What an index has in its store: a description, the projector's numbers, parts of training data, and their rows."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from upweight import files
from upweight.errors import InputError
from upweight.index import codec
from upweight.index.examples import Examples
from upweight.index.projections import Projection, read
from upweight.store.backend import LOCK, Backend, Local
from upweight.store.blocks import MARKERS, Blocks, Mark, damaged
from upweight.store.sealed import seal, unseal

DESCRIPTION = "index"
PROJECTOR = "projector"
FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What every part of an index shares.

    Attributes
    ----------
    projection, dtype, shard
        Settings: shards have so many examples.
    facts
        Model, loss and penalty, in words that differ where they do (`upweight.index.facts`).
    curvature
        Whose the matrix is, with its settings.
    widths, shapes, lossless
        Of a row (`upweight.index.projectors`).
    p
        Numbers of a gradient.
    projector
        Checksum of the projector's numbers.
    """

    projection: dict[str, Any]
    dtype: codec.Dtype
    shard: int
    facts: dict[str, str]
    curvature: dict[str, Any]
    widths: tuple[int, ...]
    shapes: tuple[tuple[int, int, int], ...]
    lossless: bool
    p: int
    projector: str

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return sum(self.widths)

    @property
    def settings(self) -> Projection:
        """Of the projector."""
        return read(self.projection)

    def sealed(self) -> bytes:
        """As a store keeps it."""
        return seal({"format": FORMAT, **vars(self)})

    @classmethod
    def of(cls, content: bytes, where: str) -> Description:
        """From a store.

        Raises
        ------
        InputError
            If it is none, or of another version.
        """
        said = unseal(content)
        if said is None or "format" not in said:
            raise InputError(f"store: {where} holds no description of an index; build it anew elsewhere")
        if said.pop("format") != FORMAT:
            raise InputError(
                f"store: {where} holds an index of format {unseal(content)['format']!r}; "  # type: ignore[index]
                f"this version reads {FORMAT}"
            )
        try:
            said["widths"] = tuple(said["widths"])
            said["shapes"] = tuple((c, left, right) for c, left, right in said["shapes"])
            return cls(**said)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"store: {where} holds no description of an index ({error})") from error


@dataclass(frozen=True, eq=False)
class Part:
    """Training examples that were given together.

    Attributes
    ----------
    examples
        Their names and columns.
    data
        Which they are (`upweight.index.facts.of_data`).
    first
        The number of its first shard.
    stationarity
        How far θ is from an optimum, in words; "" where it isn't, None where that wasn't asked.
    """

    examples: Examples
    data: str
    first: int
    stationarity: str | None = None

    @property
    def n(self) -> int:
        """How many."""
        return len(self.examples.ids)

    def shards(self, size: int) -> list[tuple[str, int, int]]:
        """Name, begin and end of each shard."""
        begins = range(0, self.n, size)
        return [(f"rows-{self.first + k:06d}", begin, min(begin + size, self.n)) for k, begin in enumerate(begins)]

    def sealed(self) -> bytes:
        """As a store keeps it."""
        said = {"data": self.data, "first": self.first, "stationarity": self.stationarity}
        return seal({**said, **self.examples.said()})

    @classmethod
    def of(cls, content: bytes, where: str) -> Part:
        """From a store."""
        said = unseal(content)
        try:
            assert said is not None
            return cls(Examples.read(said), said["data"], said["first"], said["stationarity"])
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"store: {where} holds no part of an index ({error})") from error


@dataclass(frozen=True, eq=False)
class Stored:
    """Reads the blocks of an index, each compared with its checksum when it is first read."""

    blocks: Blocks
    _seen: set[tuple[str, str]] = field(default_factory=set)

    @property
    def backend(self) -> Backend:
        """Where they are."""
        return self.blocks.backend

    def description(self) -> Description:
        """Of the index.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.blocks.mark(DESCRIPTION) is None:
            raise InputError(
                f"store: there is no index in {self.backend}; give the folder or URL that upweight.index.build wrote to"
            )
        return Description.of(self.blocks.content(DESCRIPTION), f"block {DESCRIPTION} in {self.backend}")

    def parts(self) -> list[Part]:
        """All parts, in order."""
        found: list[Part] = []
        while self.blocks.mark(part_name(len(found))) is not None:
            name = part_name(len(found))
            found.append(Part.of(self.blocks.content(name), f"block {name} in {self.backend}"))
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a block, mapped from a local file, else read.

        Raises
        ------
        InputError
            If it isn't committed, or was cut or altered; names it.
        """
        mark = self.blocks.mark(name)
        if mark is None:
            raise InputError(f"store: {self.backend} has no whole block {name}; build or append again, which makes it")
        return codec.views(self._content(name, mark), f"block {name} in {self.backend}")

    def _content(self, name: str, mark: Mark) -> Any:
        content = _mapped(self.backend, mark) if isinstance(self.backend, Local) else self._read(mark)
        if content is None:
            raise damaged(self.backend, name, mark, "is missing")
        if len(content) != mark.size:
            raise damaged(self.backend, name, mark, f"has {len(content)} bytes instead of {mark.size}")
        if (name, mark.sha256) not in self._seen:
            if hashlib.sha256(content).hexdigest() != mark.sha256:
                raise damaged(self.backend, name, mark, "was altered: its checksum differs")
            self._seen.add((name, mark.sha256))
        return content

    def _read(self, mark: Mark) -> bytearray | None:
        content = self.backend.read(mark.key)
        return None if content is None else bytearray(content)

    def missing(self, description: Description, parts: list[Part]) -> list[str]:
        """Shards that aren't committed."""
        there = self.blocks.marks("rows-")
        return [name for part in parts for name, _, _ in part.shards(description.shard) if name not in there]

    def rows(
        self, description: Description, parts: list[Part], chosen: Tensor
    ) -> Iterator[tuple[str, Tensor, slice | Tensor, dict[str, Tensor]]]:
        """Shards with examples that were chosen, in order: name, places among the chosen, rows in it, tensors."""
        begin, place = 0, 0
        for part in parts:
            for name, low, high in part.shards(description.shard):
                last = int(torch.searchsorted(chosen, begin + high))
                if last > place:
                    inside: slice | Tensor = chosen[place:last] - (begin + low)
                    if last - place == high - low:
                        inside = slice(0, high - low)
                    yield name, torch.arange(place, last), inside, self.tensors(name)
                    place = last
            begin += part.n


def part_name(number: int) -> str:
    """The block of a part."""
    return f"part-{number:04d}"


def _mapped(backend: Local, mark: Mark) -> Any:
    """A file's memory, private to this process: nothing that is written to it reaches the file."""
    try:
        with (backend.path / mark.key).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # an empty file can't be mapped
        return b""
    except OSError as error:
        raise InputError(f"store: {backend.path / mark.key} can't be read ({error.strerror or error})") from error


def refuse_other_place(backend: Backend) -> None:
    """Refuse to begin an index where something else is.

    Raises
    ------
    InputError
        If the folder holds files that are no store's.
    upweight.files.NotWrittenError
        If it is a file.
    """
    if not isinstance(backend, Local) or not backend.path.exists():
        return
    if not backend.path.is_dir():
        raise files.NotWrittenError(f"store: {backend.path} is no folder; give another path")
    ours = {MARKERS.rstrip("/"), "blocks", LOCK}
    other = next((each.name for each in sorted(backend.path.iterdir()) if each.name not in ours), None)
    if other is not None:
        raise InputError(f"store: {backend.path} holds something else ({other}); give a new or empty folder")
