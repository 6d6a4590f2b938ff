"""A recording that is there, cut to where a training goes on."""

from __future__ import annotations

from upweight.errors import InputError
from upweight.recorder.log import Log
from upweight.store.blocks import Blocks


def refuse_another(blocks: Blocks) -> None:
    """Refuse a store of something else."""
    if not blocks.names("step-") and not blocks.names("log-") and blocks.backend.keys(""):
        raise InputError(f"store: {blocks.backend} holds something else; give a place of its own")


def taken_up(blocks: Blocks, start: int | None) -> int:
    """The steps that are recorded; what was recorded of later ones than ``start`` is removed.

    Raises
    ------
    InputError
        If steps between the recording and the training's beginning are missing, or it begins anew.
    """
    steps = {name: int(mark.facts["steps"]) for name, mark in blocks.marks("step-").items()}
    logs = {name: (int(mark.facts["first"]), int(mark.facts["steps"])) for name, mark in blocks.marks("log-").items()}
    if not logs:
        return 0 if start is None else start
    begun, ended = min(first for first, _ in logs.values()), max(last for _, last in logs.values())
    if start is None:
        start = max(steps.values(), default=begun)
    elif start == 0 and steps:
        raise InputError(
            f"store: {blocks.backend} holds a recording of {max(steps.values()):,} steps, and this training begins at "
            "none; go on from its checkpoint, or give a place of its own"
        )
    elif start > ended or (begun > start > 0):
        raise InputError(
            f"store: {blocks.backend} holds steps {begun + 1:,} to {ended:,}, and this training goes on after step "
            f"{start:,}: what is between wasn't recorded. Go on from an earlier checkpoint, or give a place of its own"
        )
    cut(blocks, start)
    return start


def cut(blocks: Blocks, last: int) -> None:
    """Remove what was recorded after the ``last``-th step, the latest first."""
    for prefix in ("step-", "once-"):
        for name, mark in reversed(blocks.marks(prefix).items()):
            if int(mark.facts["steps"]) > last:
                blocks.remove(name)
    for name, mark in reversed(blocks.marks("log-").items()):
        if int(mark.facts["first"]) >= last:
            blocks.remove(name)
        elif int(mark.facts["steps"]) > last:
            shorter = Log.of(blocks.content(name), name).until(last)
            # Under another key, so that a kill leaves the one or the other.
            blocks.commit(name, shorter.packed(), key=f"blocks/{name}-{last:010d}", facts=marked(shorter))
            blocks.backend.delete(mark.key)


def marked(log: Log) -> dict[str, int]:
    """What a log's marker says."""
    return {"first": log.first, "steps": log.last}
