"""Scores that are in memory already, as the store that a finished job leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from upweight.attribution import Attribution, Magnitude
from upweight.jobs import description, fingerprints
from upweight.jobs.shards import cut, usual_width
from upweight.solve_report import SolveReport
from upweight.store import columns
from upweight.store.array import ScoreArray
from upweight.store.backend import Backend, Memory
from upweight.store.blocks import Blocks
from upweight.stored import Stored
from upweight.stored.names import SCORES

UNJUDGED = Magnitude(False, "whoever made the scores didn't say whether their sizes can be believed")


def written(found: Attribution, place: Backend, own: Mapping[str, np.ndarray]) -> Stored:
    """Put scores with their names, and columns of the training examples, into a place that holds nothing yet.

    Raises
    ------
    InputError
        If the place holds something, or a column isn't one value for each training example.
    upweight.files.NotWrittenError
        If it can't be written.
    """
    scores = np.ascontiguousarray(found.scores.detach().float().cpu().numpy())
    examples, queries = scores.shape[-1], None if scores.ndim == 1 else len(scores)
    ids = columns.checked("ids", found.ids, examples)
    query_ids = columns.checked("query_ids", found.query_ids, queries or 0)
    held = {name: columns.checked(f"columns[{name!r}]", values, examples) for name, values in own.items()}
    width = usual_width(examples, 4 * (queries or 1), examples, 1, dense=True)
    array = ScoreArray(SCORES, queries, examples, min(width, examples), "float32")
    tables = {"ids": ids, "query-ids": query_ids} | {f"column-{k}": values for k, values in enumerate(held.values())}

    def described(name: str) -> dict[str, Any]:
        said = columns.write(Blocks(Memory()), name, tables[name])
        return {**said, "digest": fingerprints.of_names(tables[name])}

    said = {
        "kind": found.quantity.name,
        "settings": {"top_k": None},
        "fingerprints": {"ids": fingerprints.of_names(ids), "data": f"scores {fingerprints.digest(scores)}"},
        "versions": fingerprints.versions(),
        "array": asdict(array),
        "top_k": None,
        "ids": described("ids"),
        "query_ids": described("query-ids"),
        "columns": {name: described(f"column-{k}") for k, name in enumerate(held)},
    }
    blocks, report = Blocks(place), found.report
    with place.held():
        description.begin(place, said, resume=False)
        for name, values in tables.items():
            columns.write(blocks, name, values)
        place.write(*array.description())
        for shard in cut(examples, array.width):
            part = np.ascontiguousarray(scores[..., shard.start : shard.stop])
            blocks.commit(f"{SCORES}-{shard.name}", array.encoded(part), key=array.key(shard.number))
        description.finish(
            place,
            {
                "quantity": asdict(found.quantity),
                "damping": found.damping,
                "solve": report.to_dict() if isinstance(report, SolveReport) else None,
                "report": "" if report is None else str(report),
                "facts": dict(found.facts),
                "magnitude": asdict(found.magnitude or UNJUDGED),
            },
        )
    return Stored.open(place)
