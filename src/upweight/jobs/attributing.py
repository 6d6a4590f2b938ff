"""Scores by shards, in a store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight.attribution import Magnitude, Quantity
from upweight.data import Data
from upweight.engine.stationarity import Moments
from upweight.errors import DamagedFileWarning, InputError, warn
from upweight.forward import words
from upweight.inverse import Inverse, Solver
from upweight.jobs import description, fingerprints, fitting, parts
from upweight.jobs.fitting import Fit
from upweight.jobs.kept import Kept
from upweight.jobs.parts import Parts
from upweight.jobs.run import Log, run
from upweight.jobs.shards import Shard, cut, usual_width
from upweight.jobs.worker import Worker, same
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.precision import Precision
from upweight.quantities.magnitude import Lowest
from upweight.quantities.scoring import Asked, Scoring
from upweight.store import columns
from upweight.store.array import ScoreArray
from upweight.store.backend import Backend, Memory
from upweight.store.blocks import Blocks
from upweight.store.description import RESULT, result
from upweight.stored import Stored
from upweight.stored.names import EXTREMES, SCORES


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be scored.

    Attributes
    ----------
    kind
        What the scores are, in a word or two.
    objective, asked, data, measurement
        As of a `Scoring`; ``data``: the queries, or None.
    inverse
        As it was given or chosen.
    positions
        Training examples to be scored, None: all.
    query_ids
        Names of the queries.
    scoring
        Makes what scores, of an inverse that is fitted in the job's store if it isn't yet.
    gathers
        Whether the moments of all training gradients are wanted.
    lowest
        Makes `Lowest` of the lowest scores and their examples; None where scores aren't changes of losses, which can't
        fall below zero.
    outcome
        Damping, facts and magnitude of the finished scores.
    said
        What a score is, of what the scoring says of it.
    """

    kind: str
    objective: Objective
    asked: Asked
    data: Data | None
    measurement: Measurement
    inverse: Inverse | Solver
    precision: Precision | None
    positions: Tensor | None
    query_ids: np.ndarray
    scoring: Callable[[Fit], Scoring]
    gathers: Callable[[Scoring], bool]
    lowest: Callable[[Tensor, np.ndarray], Lowest] | None
    outcome: Callable[[Moments | None, Lowest | None], tuple[float, dict[str, float], Magnitude]]
    said: Callable[[Quantity], Quantity] = lambda quantity: quantity

    @property
    def ids(self) -> np.ndarray:
        """Names of the training examples that are scored."""
        names = self.objective.ids
        return names if self.positions is None else names[self.positions.numpy()]

    @property
    def settings(self) -> dict[str, Any]:
        """What makes scores what they are, in words."""
        return {
            **asdict(self.asked),
            "measurement": None if self.data is None else fingerprints.of_code(self.measurement),
            "inverse": fingerprints.of_inverse(self.inverse),
            "precision": self.precision,
            "forward": words(self.objective.problem.half or self.objective.dtype),
            "train": self._train,
        }

    @property
    def _train(self) -> str:
        """Which training examples, in a few letters."""
        positions = self.positions
        if positions is None or torch.equal(positions, torch.arange(self.objective.n)):
            return "all"
        return fingerprints.of_names(positions.numpy())


def attribute(work: Work, kept: Kept) -> Stored:
    """Score shard by shard, and give the store.

    Raises
    ------
    InputError
        If the store is of something else, another process works on it, or an argument is impossible.
    upweight.files.NotWrittenError
        If the disk is full, or the store can't be written to; what is committed stays.
    upweight.executors.TaskFailedError, upweight.executors.WorkerDiedError
        If a shard failed, with its examples.
    """
    place = kept.check()
    names = kept.checked_columns(work.objective.n)
    ids = columns.checked("ids", work.ids, len(work.ids))
    query_ids = columns.checked("query_ids", work.query_ids, len(work.query_ids))
    said = {
        "kind": work.kind,
        "settings": {**work.settings, "top_k": kept.top_k},
        "fingerprints": _fingerprints(work, query_ids),
        "versions": fingerprints.versions(),
    }
    job = _Job(work, kept, place, said, ids, query_ids, names)
    found = job.finished()
    if found is not None:
        return found
    with place.held():
        return job.done()


def _fingerprints(work: Work, query_ids: np.ndarray) -> dict[str, str]:
    found = fingerprints.of_objective(work.objective)
    if work.data is not None:
        found["queries"] = f"{fingerprints.of_data(work.data, len(work.data))} {fingerprints.of_names(query_ids)}"
    return found


@dataclass(eq=False)
class _Job:
    work: Work
    kept: Kept
    place: Backend
    said: dict[str, Any]
    ids: np.ndarray
    query_ids: np.ndarray
    names: dict[str, np.ndarray]

    @property
    def blocks(self) -> Blocks:
        return Blocks(self.place)

    def finished(self) -> Stored | None:
        """The store, if it holds the whole result already; nothing is written, so that it may be read only."""
        found = description.described(self.place, missing=None)
        if found is None or not self.kept.resume:
            return None
        description.refuse_other(self.place, found, self.said)
        self._refuse_other_columns(found)
        if result(self.place) is None or self._missing(found, None) or self._undescribed(found):
            return None
        with suppress(OSError):  # what a kill left beside the result is nobody's, also where nothing can be written
            Parts(self.blocks, partial(parts.scored, top_k=found["top_k"])).clear()
            fitting.cleared(self.blocks, factors=True)
        return Stored.open(self.place)

    def done(self) -> Stored:
        """Go on until nothing is missing."""
        said, is_new = description.begin(self.place, self._whole(), resume=self.kept.resume)
        array, log = ScoreArray(**said["array"]), Log(self.place)
        self._refuse_other_columns(said)
        if is_new or self._undescribed(said):
            if len(said["columns"]) > len(self.names):
                raise InputError(
                    f"columns: {self.place} was begun with {list(said['columns'])}, and what it keeps of names and "
                    "columns is damaged or missing; give these columns again"
                )
            self._write_names(array)
        top_k = said["top_k"]
        self.work.objective.engine.hold(said["passes"])
        outcome, sums = result(self.place), Parts.found(self.blocks, partial(parts.scored, top_k=top_k))
        if outcome is not None and top_k is not None and self._missing(said, None):
            warn(f"store: block {EXTREMES} in {self.place} is damaged; all shards are done again", DamagedFileWarning)
            self.place.delete(RESULT)
            outcome = None
        missing = self._missing(said, None if outcome is not None else sums)
        if missing:
            scoring = self._scoring(said)
            worker = Worker(
                scoring,
                self.work.positions,
                self.place,
                array,
                top_k,
                self.work.precision,
                said["passes"],
                self.work.gathers(scoring),
                self.work.lowest is not None,
            )
            run(
                said["kind"], missing, array.shards, self.kept.who, partial(same, worker),
                lambda shard, last: sums.add(shard.number, last=last), log,
            )  # fmt: skip
        if outcome is None:
            sums.merge()
            self._finish(sums, top_k, self._scoring(said))
        sums.clear()
        fitting.cleared(self.blocks, factors=True)
        return Stored.open(self.place)

    def _scoring(self, said: dict[str, Any]) -> Scoring:
        work = self.work
        fit = Fit(
            objective=work.objective,
            place=self.place,
            executor=self.kept.who,
            precision=work.precision,
            passes=said["passes"],
        )
        return work.scoring(fit)

    def _whole(self) -> dict[str, Any]:
        """The description of a job that begins now."""
        objective, n = self.work.objective, len(self.ids)
        queries = None if self.work.data is None else len(self.work.data)
        width = self.kept.shard_size or usual_width(
            n,
            objective.engine.bytes(queries or 1),
            objective.engine.pass_rows,
            self.kept.who.workers,
            dense=self.kept.top_k is None,
        )
        array = ScoreArray(SCORES, queries, n, min(width, n), _numpy(objective.dtype))
        return {
            **self.said,
            "array": asdict(array),
            "top_k": self.kept.top_k,
            "passes": objective.engine.memory,
            "ids": self._described("ids", self.ids),
            "query_ids": self._described("query-ids", self.query_ids),
            "columns": {name: self._described(f"column-{k}", values) for k, (name, values) in enumerate(self._columns)},
        }

    @property
    def _columns(self) -> list[tuple[str, np.ndarray]]:
        chosen = slice(None) if self.work.positions is None else self.work.positions.numpy()
        return [(name, values[chosen]) for name, values in self.names.items()]

    def _described(self, name: str, values: np.ndarray) -> dict[str, Any]:
        """What writing a column will say of it, and what tells its values from others."""
        return {**columns.write(Blocks(Memory()), name, values), "digest": fingerprints.of_names(values)}

    def _undescribed(self, said: dict[str, Any]) -> bool:
        """Whether names, or what zarr has to know of the scores, are missing or damaged."""
        every = [said["ids"], said["query_ids"], *said["columns"].values()]
        expected = {name for column in every for name in columns.blocks_of(column)}
        whole = {name for column in every for name in self.blocks.whole(f"{column['name']}-")} if expected else set()
        if not expected <= whole:
            return True
        return said["top_k"] is None and not ScoreArray(**said["array"]).is_described(self.place)

    def _refuse_other_columns(self, said: dict[str, Any]) -> None:
        """Refuse columns that aren't those that the store was begun with; none needn't be given again."""
        given = {name: self._described(f"column-{k}", values) for k, (name, values) in enumerate(self._columns)}
        if given and given != said["columns"]:
            raise InputError(
                f"columns: {self.place} was begun with {list(said['columns'])}, and this call has {list(given)} or "
                "other values; leave columns out, give the same, or give another store"
            )

    def _write_names(self, array: ScoreArray) -> None:
        columns.write(self.blocks, "ids", self.ids)
        columns.write(self.blocks, "query-ids", self.query_ids)
        for number, (_, values) in enumerate(self._columns):
            columns.write(self.blocks, f"column-{number}", values)
        if self.kept.top_k is None:
            key, content = array.description()
            self.place.write(key, content)

    def _missing(self, said: dict[str, Any], sums: Parts | None) -> list[Shard]:
        """Shards whose scores, or parts of what is still to be added up, aren't there and whole."""
        array = ScoreArray(**said["array"])
        shards = cut(array.examples, array.width)
        if said["top_k"] is None:
            whole = self.blocks.whole(f"{SCORES}-")
            added = [shard for shard in shards if sums is None or sums.has(shard.number)]
            there = {shard.number for shard in added if f"{SCORES}-{shard.name}" in whole}
            return [shard for shard in shards if shard.number not in there]
        if sums is None:
            return [] if self.blocks.whole(EXTREMES) else shards
        return [shard for shard in shards if not sums.has(shard.number)]

    def _finish(self, sums: Parts, top_k: int | None, scoring: Scoring) -> None:
        part, work = sums.merged, self.work
        assert part is not None
        moments = lowest = None
        if "total" in part.tensors:
            like, layout = work.objective.params, work.objective.layout
            moments = Moments.of(like, layout, part.tensors["total"], part.tensors["squares"])
        if work.lowest is not None:
            lowest = work.lowest(part.tensors["lowest"], self.ids[part.tensors["lowest_at"].numpy()])
        damping, facts, magnitude = work.outcome(moments, lowest)
        if top_k is not None:
            wanted = [f"{name}{end}" for name in parts.EXTREMES for end in ("", "_at")]
            self.blocks.commit(EXTREMES, parts.pack({name: part.tensors[name] for name in wanted}))
        report = part.report
        assert report is not None
        description.finish(
            self.place,
            {
                "quantity": asdict(work.said(scoring.meaning)),
                "damping": damping,
                "solve": report.to_dict(),
                "report": str(report),
                "facts": facts,
                "magnitude": asdict(magnitude),
            },
        )


def _numpy(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
