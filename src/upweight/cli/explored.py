"""The store of what `upweight explore` is given: a store as it is, or one that is made of a study file or a CSV."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.cli.job_options import place_of
from upweight.cli.options import TableOptions
from upweight.cli.session import Session
from upweight.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli.source import Source
    from upweight.store import Backend

ALL = 2**28
"""Scores up to which a study's store keeps all of them."""
TOP_K = 200
OPTIONS: dict[str, Any] = {
    "self_influence": False, "quantity": "removal", "measurement": "loss", "inverse": None, "damping": None,
    "renormalize": False, "leverage_corrected": False, "precision": None, "shard_size": None, "columns": None,
    "seed": None,
}  # fmt: skip
"""Of `upweight attribute`, as they are left to their defaults."""


def opened(
    run: Session, source: str, store: str | None, target: str | None, options: TableOptions, queries: int, seed: int,
    tokens: bool | None = None,
) -> Backend:  # fmt: skip
    """The store that is to be shown, made where it isn't there yet.

    Raises
    ------
    InputError
        If the source is none, or the store is another's.
    """
    from upweight.cli.study_file import is_study
    from upweight.store.backend import backend

    path = Path(source)
    if tokens and not (path.is_file() and is_study(path)):
        raise InputError("--tokens: tokens are scored by a study file; give the study, with --store DIR for its store")
    if "://" in source or path.is_dir():
        given = "--store" if store is not None else "--target" if target is not None else options.given
        if given is not None:
            raise InputError(f"{given}: {source} is a store itself; leave {given} out")
        return place_of(source)
    if not path.is_file():
        raise InputError(f"{source}: there is no such store, study file or CSV")
    place = backend(f"{path.stem}.explore" if store is None else store, "--store")
    if is_study(path):
        given = "--target" if target is not None else options.given
        if given is not None:
            raise InputError(f"{given}: is for CSV files; a study file holds its own model and examples")
        _of_study(run, path.absolute(), place, tokens)
    else:
        if target is None:
            raise InputError(f"{path.name}: say which column is predicted, with --target COLUMN")
        _of_csv(run, path.absolute(), place, target, options, queries, seed)
    return place


def _of_study(run: Session, path: Path, place: Backend, tokens: bool | None) -> None:
    from dataclasses import replace

    from upweight.cli.job import scored, studied
    from upweight.executors import InProcess
    from upweight.explore.coloured import Readable
    from upweight.explore.display import Origin
    from upweight.explore.making import Given, made
    from upweight.jobs.begun import Begun, begun, refuse_foreign
    from upweight.jobs.of_study import digest

    refuse_foreign(place)
    found = begun(place)
    if found is not None and Path(found.study) != path:
        raise InputError(f"--store: {place} was begun with {found.study}, not with {path}; give another --store")
    print_ = digest(path)
    job = found or Begun(
        str(path), print_, str(Path.cwd()), dict(OPTIONS), {"workers": None, "ray": None, "slurm": None}
    )
    with contextlib.chdir(job.folder):
        if found is not None and found.digest == print_ and _is_whole(place, tokens):
            return  # as it was left; a study file that has changed is read again, and compared
        study = studied(run, job, place)
        if found is None:
            many = study.objective.n * len(study.objective.queries(study.queries))
            job = replace(job, options={**OPTIONS, "top_k": None if many <= ALL else min(TOP_K, study.objective.n)})
        done = scored(run, job, place, study, InProcess())
        stored, asked = done.stored, job.options
        read = Readable(
            done.influence,
            study.tokens,
            study.query_tokens,
            quantity=asked["quantity"],
            measurement=asked["measurement"],
            whole=not (asked["renormalize"] or asked["leverage_corrected"]),
            wanted=tokens,
        )
        given = Given(
            title=path.name,
            class_names=study.class_names,
            images=study.images,
            query_images=study.query_images,
            own=_columns(study.table),
            query_own=_columns(study.query_table),
            origin=Origin("study", str(path), job.folder, print_, {}),
            read=read,
        )
        ids = stored.query_ids if len(stored.shape) > 1 else np.array([], dtype=np.int64)
        made(place, study.objective, study.queries, given, query_ids=ids, said=run.stage, lost=run.note)


def _of_csv(
    run: Session, path: Path, place: Backend, target: str, options: TableOptions, queries: int, seed: int
) -> None:
    from upweight.cli.sources import open_source
    from upweight.explore.display import NAME, Origin, kept
    from upweight.explore.making import Given, made
    from upweight.influence import Influence
    from upweight.jobs.begun import refuse_foreign
    from upweight.jobs.of_study import digest
    from upweight.stored import Stored

    refuse_foreign(place)
    asks = asked_of(options) | {"target": target, "seed": seed, "queries": queries}
    origin = Origin("csv", str(path), str(Path.cwd()), digest(path), asks)
    if place.read(NAME) is not None:
        before = kept(Stored.open(place))
        theirs = None if before is None else before.origin
        if theirs is None or (theirs.path, theirs.digest, asked_of(TableOptions()) | theirs.options) != (
            origin.path,
            origin.digest,
            origin.options,
        ):
            raise InputError(
                f"--store: {place} is of another file, another version of it, or other options; give another --store"
            )
        return
    run.stage(f"reading {path.name} and training")
    opened_ = open_source(path, target, None, None, seed, options)
    _refuse_transformed(opened_)
    asked = _asked(opened_, queries)
    run.stage(f"scoring {opened_.objective.n:,} rows for {len(asked):,} held-out ones")
    taken = opened_.queries.take(asked.tolist())
    ids = opened_.query_ids[asked]
    Influence(opened_.objective).attribute(taken, query_ids=ids.tolist(), store=place, columns={})
    held_out = opened_.query_table
    assert held_out is not None
    for note in opened_.notes:
        run.note(note)
    given = Given(
        title=path.name,
        noun="row",
        class_names=opened_.class_names,
        own=_columns(opened_.values),
        query_own=_columns(held_out.iloc[asked, 1:]),
        lines=opened_.lines,
        query_lines=None if opened_.query_lines is None else opened_.query_lines[asked],
        origin=origin,
    )
    made(place, opened_.objective, taken, given, query_ids=ids, said=run.stage, lost=run.note)


def _asked(source: Source, queries: int) -> np.ndarray:
    """Positions of the held-out rows that are asked about: wrong ones first, and of these the highest losses."""
    said = source.predictions()
    losses = source.objective.losses(source.queries) if said is None else said.losses
    right = np.zeros(len(losses), dtype=bool) if said is None else ~said.wrong.cpu().numpy()
    order = np.lexsort((-losses.cpu().numpy(), right))
    return np.sort(order[:queries])


def asked_of(options: TableOptions) -> dict[str, Any]:
    """How a table is read and trained on, as a store keeps it."""
    found = {"drop": list(options.drop), "only": list(options.only)}
    return found | {name: getattr(options, name) for name in ("weight", "group", "task", "model", "estimator")}


def options_of(asked: Mapping[str, Any]) -> TableOptions:
    """The same, of what a store keeps: one that says nothing of a task holds classes."""
    return TableOptions(
        tuple(asked["drop"]), tuple(asked["only"]), asked.get("weight"), asked.get("group"),
        task=asked.get("task", "classification"), model=asked.get("model", "auto"), estimator=asked.get("estimator"),
    )  # fmt: skip


def _refuse_transformed(source: Source) -> None:
    """Refuse a quantity that the model knows in other units than the file's: no value could be set in these.

    Raises
    ------
    InputError
        If it is one.
    """
    model = source.model
    if model is not None and not model.table.classifies and model.targets is not None:
        raise InputError(
            f"--estimator: {model.kind} is trained on {model.table.target!r} as it transforms it, so that values can't "
            "be shown and set in the file's own units; give an estimator without that transformation, with the column "
            "transformed in the file, or `upweight label-errors`, which ranks the rows"
        )


def _is_whole(place: Backend, tokens: bool | None) -> bool:
    """Whether scores and what is shown beside them are all there, tokens too where they are asked for."""
    from upweight.explore.display import NAME, kept
    from upweight.store.description import result
    from upweight.stored import Stored

    if place.read(NAME) is None or result(place) is None:
        return False
    found = kept(Stored.open(place)) if tokens else None
    return found is None or found.tokens is not None


def _columns(table: pd.DataFrame | None) -> Mapping[str, np.ndarray]:
    from upweight.cli.job_columns import kept

    return {} if table is None else {str(name): kept(table[name]) for name in table.columns}
