"""What a job was begun by, kept in its store: so that it can be gone on with from there alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from upweight.errors import InputError
from upweight.jobs import theta
from upweight.jobs.run import LOG
from upweight.objective import Objective
from upweight.store.backend import LOCK, Backend
from upweight.store.description import DESCRIPTION
from upweight.store.sealed import seal, unseal

COMMAND = "command.json"
OWN = (LOCK, LOG, COMMAND)
"""What a store holds before its description."""


@dataclass(frozen=True)
class Begun:
    """A command, of JSON's kinds.

    Attributes
    ----------
    study
        The study file's whole path.
    digest
        What tells it from another version of it.
    folder
        In which the study was run.
    options
        What makes the scores what they are.
    who
        Who does the work; another executor gives the same scores.
    """

    study: str
    digest: str
    folder: str
    options: dict[str, Any]
    who: dict[str, Any]

    def keep(self, place: Backend, objective: Objective) -> None:
        """Put it, and the study's θ, into a store that has no description yet: nothing has been begun there.

        Raises
        ------
        InputError
            If another process works there.
        upweight.files.NotWrittenError
            If nothing can be written there.
        """
        if place.read(DESCRIPTION) is None:
            with place.held():
                theta.keep(place, objective)
                place.write(COMMAND, seal(asdict(self)))

    def refuse_other(self, place: Backend) -> None:
        """Refuse a place that isn't free for this command.

        Raises
        ------
        InputError
            If it holds something else than a job, or the job of another command, with the first thing that differs.
        """
        refuse_foreign(place)
        if place.read(DESCRIPTION) is None:
            return
        found = begun(place)
        if found is None:
            return  # of a job by the library: what it belongs to is compared when it is gone on with
        pairs: dict[str, tuple[Any, Any]] = {"study": (found.study, self.study)}
        pairs |= {name: (found.options.get(name), value) for name, value in self.options.items()}
        for name, (theirs, ours) in pairs.items():
            if theirs != ours:
                raise InputError(
                    f"{place}: was begun with {_shown(name, theirs)}, and this command has {_shown(name, ours)}; give "
                    f"another --out, or go on with `upweight resume {place}`"
                )


def begun(place: Backend) -> Begun | None:
    """What a store was begun by; None where that was no command.

    Raises
    ------
    InputError
        If it was cut or altered, or is of a later version.
    """
    content = place.read(COMMAND)
    if content is None:
        return None
    said = unseal(content)
    kinds = {"study": str, "digest": str, "folder": str, "options": dict, "who": dict}
    if said is None or {name: type(said.get(name)) for name in kinds} != kinds:
        raise InputError(
            f"store: {COMMAND} in {place} was cut or altered, or is of a later version; bring back a copy, or begin "
            "the job in another place"
        )
    return Begun(**{name: said[name] for name in kinds})


def refuse_foreign(place: Backend) -> None:
    """Refuse a place that holds something, and no job.

    Raises
    ------
    InputError
        If so; it is named.
    """
    others = [key for key in place.keys("") if key not in OWN]
    if others and place.read(DESCRIPTION) is None:
        raise InputError(
            f"store: {place} holds {others[0]!r}, and no job of upweight's; give another place, which need not be "
            "there yet"
        )


def _shown(name: str, value: Any) -> str:
    return f"{name.replace('_', '-')} {value if value is not None else 'left to its default'}"
