"""A job on a study file, as `upweight attribute` begins it and `upweight resume` goes on with it."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from upweight.cli.session import Session

if TYPE_CHECKING:
    from upweight.executors import Executor
    from upweight.influence import Influence
    from upweight.jobs.begun import Begun
    from upweight.objective import Objective
    from upweight.store import Backend
    from upweight.stored import Stored
    from upweight.study import Study

INVERSES = ("CG", "DataInf", "Dense", "Diagonal", "Dual", "EKFAC", "Identity", "KFAC", "LSMR", "LiSSA")
"""Those that need no setting of their own."""


@dataclass(frozen=True)
class Done:
    """A finished job: its scores, and what made them."""

    stored: Stored
    study: Study
    influence: Influence


def go_on(run: Session, begun: Begun, place: Backend, executor: Executor) -> Done:
    """Do what of the job isn't done yet.

    Raises
    ------
    InputError
        If the study gives something else than what the store was begun with, or can't be sent to workers.
    """
    _refuse_gone(begun)
    with contextlib.chdir(begun.folder):
        return scored(run, begun, place, studied(run, begun, place), executor)


def studied(run: Session, begun: Begun, place: Backend) -> Study:
    """What the study file gives, at the θ of the job where that has begun."""
    from upweight.cli.study_file import read_study
    from upweight.jobs.of_study import digest
    from upweight.jobs.theta import at_kept
    from upweight.jobs.theta import kept as kept_theta

    study_file = Path(begun.study)
    run.stage(f"reading {study_file.name}")
    if digest(study_file) != begun.digest:
        run.note(f"{study_file} has changed since the job began; what it gives is compared")
    study = read_study(study_file)
    return replace(study, objective=at_kept(study.objective, kept_theta(place)))


def scored(run: Session, begun: Begun, place: Backend, study: Study, executor: Executor) -> Done:
    """The scores that the options ask for, of a study that was read in the job's folder."""
    from upweight.cli.job_columns import columns
    from upweight.executors import InProcess
    from upweight.jobs.of_study import OfStudy, digest

    options, study_file = begun.options, Path(begun.study)
    begun.keep(place, study.objective)
    who = executor if isinstance(executor, InProcess) else OfStudy(executor, study_file, study, digest(study_file))
    kept = {
        "store": place,
        "top_k": options["top_k"],
        "shard_size": options["shard_size"],
        "executor": who,
        "columns": columns(study, options["columns"]),
    }
    asked = {name: options[name] for name in ("renormalize", "leverage_corrected")}
    influence = influence_of(study.objective, options)
    run.stage(f"scoring {study.objective.n:,} training examples ({_by_whom(executor)})")
    with _ends_told(run, place):
        if options["self_influence"]:
            return Done(influence.self_influence(**asked, **kept), study, influence)
        asked |= {name: options[name] for name in ("quantity", "measurement")}
        stored = influence.attribute(study.queries, query_ids=study.query_ids, **asked, **kept)
        return Done(stored, study, influence)


def influence_of(objective: Objective, options: dict[str, Any]) -> Influence:
    """The influence that the options ask for.

    Raises
    ------
    InputError
        If they name no inverse, or one without damping or randomness is given them.
    """
    from upweight import inverse as inverses
    from upweight.errors import InputError
    from upweight.influence import Influence

    name, damping, seed = options["inverse"], options["damping"], options["seed"]
    found = Influence(objective, None if name is None else getattr(inverses, name)(), precision=options["precision"])
    if damping is None and seed is None:
        return found
    inverse: Any = found.inverse
    if damping is not None:
        if not hasattr(inverse, "damping"):
            raise InputError(f"--damping: {type(inverse).__name__} has none; leave it out, or give another --inverse")
        inverse = replace(inverse, damping=damping)
    if seed is not None:
        curvature: Any = getattr(inverse, "curvature", None)
        if hasattr(curvature, "seed"):
            inverse = replace(inverse, curvature=replace(curvature, seed=seed))
        if hasattr(inverse, "seed"):
            inverse = replace(inverse, seed=seed)
    return found.with_inverse(inverse)


def show(run: Session, stored: Stored, place: Backend) -> None:
    """Print what the finished job has given."""
    from upweight.cli.info import as_json_of, facts_of
    from upweight.cli.layout import facts, meaning
    from upweight.jobs.state import state

    now = state(place)
    run.show(
        facts("Scores in a store", facts_of(place, now)),
        meaning(stored.quantity, stored.magnitude),
        Text(f"upweight query {shlex.quote(str(place))}   shows the most helpful and most harmful examples"),
    )
    run.result = as_json_of(place, now)
    if not run.as_json:
        run.files = {"store": Path(str(place))} if "://" not in str(place) else {}


def _refuse_gone(begun: Begun) -> None:
    from upweight.errors import InputError

    if not os.path.isfile(begun.study):
        raise InputError(f"{begun.study}: the study file that the job was begun with is no more; bring it back")
    if not os.path.isdir(begun.folder):
        raise InputError(f"{begun.folder}: the folder that the job was begun in is no more; bring it back")


def _by_whom(executor: Executor) -> str:
    from upweight.executors import InProcess

    many = "worker" if executor.workers == 1 else "workers"
    return "in this process" if isinstance(executor, InProcess) else f"{executor.workers} {many}"


@contextlib.contextmanager
def _ends_told(run: Session, place: Backend) -> Iterator[None]:
    """Within, an early end says how far the job is and which command goes on."""
    run.kept = lambda: _kept(place)
    try:
        yield
    except BaseException:
        raise
    else:
        run.kept = str


def _kept(place: Backend) -> str:
    from upweight.jobs.begun import begun
    from upweight.jobs.state import state
    from upweight.store.description import described

    if described(place, missing=None) is None:
        return ""
    now = state(place)
    again = "the same call" if begun(place) is None else f"`upweight resume {shlex.quote(str(place))}`"
    return f"; {now.shards_done:,} of {now.shards:,} shards are done and kept, {again} goes on with the others"
