"""What must be reached in speed and memory on convex tasks, each target with what was measured."""

from __future__ import annotations

from benchmarks.fidelity.models import CONVEX
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.record import Found, Row, total
from benchmarks.fidelity.speed import AGREEMENT, COMPARED, disagreement
from benchmarks.fidelity.targets import Target

PEER = "pydvl"
TIMES = 10
"""How much faster than the peer, and how much dearer all queries may be than one."""
FEW = 5
"""Gradients that perturbation influence of a pair may cost."""


def targets(found: Found) -> list[Target]:
    """All of them."""
    return [
        *beside(found),
        agreement(found),
        *(queries(found, task) for task in CONVEX),
        *(perturbation(found, task) for task in CONVEX),
        growth(found),
    ]


def repeated(found: Found) -> dict[str, Row]:
    """Ours and the peers' fastest, which were timed in turn."""
    return {name: row for name, row in found["rows"].get(COMPARED, {}).items() if "repeats" in row}


def trials(found: Found) -> dict[str, float]:
    """Seconds of the peers' settings, each tried once."""
    return {name: row["trial"] for name, row in found["rows"].get(COMPARED, {}).items() if "trial" in row}


def beside(found: Found) -> list[Target]:
    """The peer's time over ours."""
    rows = repeated(found)
    cg, automatic = (rows.get(f"{OURS}: {name}") for name in ("CG", "auto"))
    peer = min((row for row in rows.values() if row["system"] == PEER), key=total, default=None)
    named = "" if peer is None else f" ({peer['variant']})"
    one_by_one = trials(found).get(f"{PEER}: one by one")
    return [
        least(f"{PEER}'s time over {OURS}'s, CG beside its best{named}", peer and total(peer), cg and total(cg)),
        least("the same, the automatic choice beside its best", peer and total(peer), automatic and total(automatic)),
        least("the same, CG beside its default (queries one by one; extrapolated)", one_by_one, cg and total(cg)),
        least(
            "the same in processor seconds, CG beside its best",
            peer and peer["stages"]["processor"],
            cg and cg["stages"]["processor"],
        ),
    ]


def least(what: str, peers: float | None, ours: float | None) -> Target:
    """A ratio that is to be high."""
    what += f": ≥ {TIMES:g}"
    if peers is None or ours is None:
        return Target(what, "not measured", None)
    return Target(what, shown(peers / ours), peers / ours >= TIMES)


def most(what: str, value: float | None, bound: float, reason: str = "not measured") -> Target:
    """A figure that is to be low."""
    what += f": < {bound:g}"
    return Target(what, reason, None) if value is None else Target(what, shown(value), value < bound)


def agreement(found: Found) -> Target:
    """The answers."""
    return most("largest difference of the answers, relative", disagreement(found), AGREEMENT)


def queries(found: Found, task: str) -> Target:
    """CG for all queries over one."""
    one = found.get("cg", {}).get(task, {})
    if "ratio" not in one:
        return most(f"CG, all queries over one: {task}", None, TIMES, one.get("failed", "not measured"))
    what = f"CG, {one['queries']} queries over one: {task}, n={one['n']:,}, p={one['p']:,}"
    return most(what, one["ratio"], TIMES)


def perturbation(found: Found, task: str) -> Target:
    """A pair, its solve not counted."""
    one = found.get("perturbation", {}).get(task, {})
    what = f"perturbation of a pair over one example's gradient: {task}"
    return most(what, one.get("pair_over_example_gradient"), FEW, one.get("failed", "not measured"))


def growth(found: Found) -> Target:
    """Memory at twice the training examples."""
    one = found.get("growth", {})
    if "runs" not in one:
        return most("memory growth at twice the examples", None, 1.1, one.get("failed", "not measured"))
    small, large = one["runs"]
    what = f"memory growth, n {small['n']:,} → {large['n']:,} at batch 500 (MLP)"
    return most(what, large["memory"] / small["memory"], 1.1)


def shown(value: float) -> str:
    """Two digits."""
    return f"{value:.1e}" if value < 0.01 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
