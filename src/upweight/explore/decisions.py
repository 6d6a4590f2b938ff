"""What people decided about training examples, kept in the store: added to, never rewritten.

A decision is a small file of its own under a name that nobody else writes, so that pages which are open at the same
time, on several machines too, lose none of each other's. `Decisions.compact` puts them into one Parquet file.
"""

from __future__ import annotations

import getpass
import hashlib
import io
import secrets
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from upweight import scalars
from upweight.errors import DamagedFileWarning, InputError, warn
from upweight.optional import imported
from upweight.store.backend import Backend
from upweight.store.description import described
from upweight.store.sealed import seal, unseal

What = Literal["keep", "relabel", "exclude"]
WHATS: tuple[What, ...] = get_args(What)
UNDO = "undo"
FOLDER, FILE = "decisions/", "decisions.parquet"
LOOSE = 256
"""Decisions in files of their own beyond which they are put into the one."""


@dataclass(frozen=True)
class Decision:
    """What somebody decided about one training example.

    Attributes
    ----------
    key
        Its own name; decisions are in the order of these.
    store
        Which examples it is about (`belongs_to`).
    id, position
        Of the example.
    what
        ``keep``, ``relabel``, ``exclude``, or ``undo`` of another.
    old, new
        The label before and after; alike but for ``relabel``.
    who, when
        A name, and the time (UTC).
    undoes
        The key of the decision that an ``undo`` takes back.
    """

    key: str
    store: str
    id: str
    position: int
    what: str
    old: str
    new: str
    who: str
    when: str
    undoes: str = ""


class Decisions:
    """The decisions of a store.

    Parameters
    ----------
    place
        The store.

    Raises
    ------
    InputError
        If there is no store, or it holds decisions about other examples.
    """

    def __init__(self, place: Backend):
        said = described(place)
        assert said is not None
        self.place = place
        self.store = belongs_to(said)
        self.count = int(said["array"]["examples"])
        self._known: dict[str, Decision] = {}
        self._whole = -1
        self.read()

    def read(self) -> list[Decision]:
        """All of them in order, those that other pages made meanwhile too; what was taken back is among them."""
        loose = self.place.keys(FOLDER)
        for name in loose:
            key = name[len(FOLDER) : -len(".json")]
            if key not in self._known and (content := self.place.read(name)) is not None:
                self._take(_of_file(unseal(content), f"{name} in {self.place}"))
        # after the small files: those that are put into this one meanwhile are read here
        size = self.place.size(FILE)
        if size is not None and size != self._whole:
            for each in _of_parquet(self.place):
                self._take(each)
            self._whole = size
        return [self._known[key] for key in sorted(self._known)]

    def standing(self) -> dict[int, Decision]:
        """The last decision about each example that wasn't taken back, by position."""
        every = self.read()
        undone = {each.undoes for each in every if each.what == UNDO}
        return {each.position: each for each in every if each.what != UNDO and each.key not in undone}

    def decide(
        self, position: int, what: What, *, id: Any, old: Any, new: Any = None, who: str | None = None
    ) -> Decision:
        """Add one.

        Raises
        ------
        InputError
            If there is no such example, or it is relabelled to nothing, or to the label that it has.
        upweight.files.NotWrittenError
            If it can't be written; then there is none.
        """
        scalars.one_of("what", what, WHATS)
        scalars.whole("position", position, 0, self.count - 1)
        if what == "relabel" and (new is None or str(new) == str(old)):
            raise InputError(f"new: example {id} has the label {old} already; give another one, or keep it")
        label = str(new) if what == "relabel" else str(old)
        return self._add(
            Decision(_key(), self.store, str(id), int(position), what, str(old), label, who or user(), _now())
        )

    def undo(self, who: str | None = None) -> Decision | None:
        """Take back the last decision of somebody's that stands; None where there is none.

        Raises
        ------
        upweight.files.NotWrittenError
            If that can't be written.
        """
        name = who or user()
        every = self.read()
        undone = {each.undoes for each in every if each.what == UNDO}
        left = [each for each in every if each.what != UNDO and each.key not in undone and each.who == name]
        if not left:
            return None
        last = left[-1]
        return self._add(replace(last, key=_key(), what=UNDO, old=last.new, new=last.old, when=_now(), undoes=last.key))

    def compact(self, least: int = 1) -> bool:
        """Put the decisions into one Parquet file, where so many or more have a file of their own; whether it did.

        Not while another process works on the store.
        """
        with imported("explore", "decisions"):
            import pyarrow
            import pyarrow.parquet

        try:
            with self.place.held():
                loose = self.place.keys(FOLDER)
                if len(loose) < max(least, 1):
                    return False
                table = pyarrow.Table.from_pylist([asdict(each) for each in self.read()], schema=_schema())
                content = io.BytesIO()
                pyarrow.parquet.write_table(table, content)
                self.place.write(FILE, content.getvalue())
                for name in loose:
                    if name[len(FOLDER) : -len(".json")] in self._known:
                        self.place.delete(name)
        except InputError:  # held by another
            return False
        return True

    def _add(self, made: Decision) -> Decision:
        self.place.write(f"{FOLDER}{made.key}.json", seal(asdict(made)))
        self._known[made.key] = made
        return made

    def _take(self, found: Decision | None) -> None:
        if found is None:
            return
        if found.store != self.store:
            raise InputError(
                f"store: {self.place} holds decisions of another store ({found.store}, about example {found.id!r}; "
                f"this one is {self.store}): its training examples are others; take {FOLDER} and {FILE} out of it"
            )
        self._known[found.key] = found


def belongs_to(said: dict[str, Any]) -> str:
    """What tells the training examples of a store from others: their content, names and number."""
    prints = said["fingerprints"]
    words = f"{prints.get('data')} {prints.get('ids')} {said['array']['examples']}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def user() -> str:
    """Who works here."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for the number of the user
        return "unknown"


_LAST = [0]


def _key() -> str:
    """A name in the order of time, that nobody else gives."""
    _LAST[0] = max(time.time_ns(), _LAST[0] + 1)
    return f"{_LAST[0]:020d}-{secrets.token_hex(4)}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _of_file(said: dict[str, Any] | None, where: str) -> Decision | None:
    if said is None or {name: type(value) for name, value in said.items()} != KINDS:
        warn(f"store: {where} was cut or altered, and is left out of the decisions", DamagedFileWarning)
        return None
    return Decision(**said)


KINDS = {each.name: int if each.name == "position" else str for each in fields(Decision)}


def _schema() -> Any:
    import pyarrow

    return pyarrow.schema(
        [(name, pyarrow.int64() if kind is int else pyarrow.string()) for name, kind in KINDS.items()]
    )


def _of_parquet(place: Backend) -> list[Decision]:
    with imported("explore", "decisions"):
        import pyarrow
        import pyarrow.parquet

    content = place.read(FILE)
    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(content or b""), columns=list(KINDS)).to_pylist()
        return [Decision(**row) for row in rows]
    except (pyarrow.ArrowException, KeyError, TypeError) as error:
        raise InputError(
            f"store: {FILE} in {place} was cut or altered ({error}); bring back a copy, or take it away"
        ) from error
