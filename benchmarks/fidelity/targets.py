"""What must be reached, each target with what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.fidelity.models import RETRAINED
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.record import Found, Row, total

SLACK = 0.02
"""LDS by which the automatic damping may fall short of the best in hindsight."""
BASE = f"{OURS}: auto"
REFERENCE = "kronfluence: EK-FAC"


@dataclass(frozen=True)
class Target:
    """What is asked, what was measured, and whether it is met (None: not measured)."""

    what: str
    measured: str
    met: bool | None

    @property
    def cells(self) -> list[str]:
        """As a line of a table."""
        return [self.what, self.measured, {True: "yes", False: "no", None: "–"}[self.met]]


def targets(found: Found) -> list[Target]:
    """All of them."""
    return [
        reached(found, 0.63, 25),
        reached(found, 0.645, 3),
        agreement(found),
        digits(found),
        *(automatic(found, task) for task in RETRAINED),
        *(ahead(found, task) for task in ("cifar-cnn", "char-gpt")),
        *iterations(found),
        memory(found),
    ]


def finished(found: Found, task: str) -> dict[str, Row]:
    """The task's rows that have scores."""
    return {name: row for name, row in found["rows"].get(task, {}).items() if "lds" in row}


def automatic_rows(found: Found, task: str) -> dict[str, Row]:
    """Those of ours that chose everything by themselves."""
    rows = finished(found, task).items()
    return {name: row for name, row in rows if row["system"] == OURS and row["damping"] == "default"}


def reached(found: Found, lds: float, share: float) -> Target:
    """An LDS within a share of kronfluence's time, on mnist-mlp, at the automatic damping."""
    what = f"mnist-mlp: LDS ≥ {lds:g} in ≤ 1/{share:g} of kronfluence's time"
    peer, ours = finished(found, "mnist-mlp").get(REFERENCE), automatic_rows(found, "mnist-mlp")
    if peer is None or not ours:
        return Target(what, "not measured", None)
    enough = {name: row for name, row in ours.items() if row["lds"] >= lds}
    if enough:
        name = min(enough, key=lambda each: total(enough[each]))
    else:
        name = max(ours, key=lambda each: ours[each]["lds"])
    row = ours[name]
    ratio = total(peer) / total(row)
    return Target(what, f"{row['lds']:.3f} in 1/{ratio:.3g} ({name})", bool(enough) and ratio >= share)


def agreement(found: Found) -> Target:
    """EK-FAC beside kronfluence's."""
    what = "mnist-mlp: EK-FAC's ranks as kronfluence's at equal damping and statistics, ρ ≥ .99, in ≤ 1/5 of its time"
    one = found.get("agreement", {})
    if "correlation" not in one:
        return Target(what, "not measured", None)
    ratio = total(one["peer"]) / total(one["ours"])
    return Target(what, f"ρ = {one['correlation']:.4f} in 1/{ratio:.3g}", one["correlation"] >= 0.99 and ratio >= 5)


def digits(found: Found) -> Target:
    """The automatic choice on the smallest task."""
    what, row = "digits: LDS ≥ .74 by automatic choice", finished(found, "digits").get(BASE)
    return Target(what, "not measured", None) if row is None else Target(what, f"{row['lds']:.4f}", row["lds"] >= 0.74)


def automatic(found: Found, task: str) -> Target:
    """The automatic damping beside the best of a grid, for every inverse that was measured at both."""
    rows = finished(found, task)
    losses = {
        row["variant"]: row["lds"] - rows[f"{OURS}: {row['variant']}"]["lds"]
        for row in rows.values()
        if row["system"] == OURS and row["damping"] == "best" and f"{OURS}: {row['variant']}" in rows
    }
    what = f"{task}: automatic damping within {SLACK:g} LDS of the best in hindsight"
    if not losses:
        return Target(what, "not measured", None)
    words = ", ".join(f"{name} {loss:.3f}" for name, loss in sorted(losses.items()))
    return Target(what, f"short by: {words}", max(losses.values()) <= SLACK)


def ahead(found: Found, task: str) -> Target:
    """Whether one variant of ours has the highest LDS, in no more time and memory than any peer that comes near it."""
    what = f"{task}: LDS above every peer's, in no more time and memory"
    ours = automatic_rows(found, task)
    peers = {name: row for name, row in finished(found, task).items() if row["system"] != OURS}
    if not ours or not peers:
        return Target(what, "not measured", None)
    unbeaten = [name for name, peer in peers.items() if not any(beats(row, peer) for row in ours.values())]
    best, nearest = (max(rows, key=lambda each: rows[each]["lds"]) for rows in (ours, peers))
    words = f"{ours[best]['lds']:.3f} ({best}) beside {peers[nearest]['lds']:.3f} ({nearest}); "
    if unbeaten:
        return Target(what, words + f"not beaten in all three at once: {', '.join(unbeaten)}", False)
    return Target(what, words + f"a row of ours beats each of {len(peers)} in all three", True)


def beats(row: Row, peer: Row) -> bool:
    """Higher LDS in no more time and memory."""
    return row["lds"] > peer["lds"] and total(row) <= total(peer) and row["memory"] <= peer["memory"]


def iterations(found: Found) -> list[Target]:
    """Preconditioned CG to the exact GGN beside plain CG: the best preconditioner, for single queries and a block."""
    one = found.get("iterations", {})
    what = "exact GGN by preconditioned CG in ≤ 1/5 of the iterations of plain CG"
    if "solvers" not in one:
        return [Target(what, "not measured", None)]
    solvers = {name: each for name, each in one["solvers"].items() if each["converged"]}
    kinds = {
        "single queries": {name: sum(each["single"]) / len(each["single"]) for name, each in solvers.items()},
        f"a block of {one['block']}": {name: each["block"] for name, each in solvers.items() if "block" in each},
    }
    return [fewer(f"{what}: {kind}", counts) for kind, counts in kinds.items()]


def fewer(what: str, counts: dict[str, float]) -> Target:
    """The preconditioner of fewest iterations beside none."""
    plain = counts.pop("plain", None)
    if plain is None or not counts:
        return Target(what, "not converged", False)
    best = min(counts, key=lambda name: counts[name])
    words = f"1/{plain / counts[best]:.3g} ({counts[best]:.3g} by {best}, plain {plain:.3g})"
    return Target(what, words, plain / counts[best] >= 5)


def memory(found: Found) -> Target:
    """Growth of the large attribution."""
    what = "50,000 images × 100 queries on cifar-cnn's network: memory ≤ 3 GiB beyond data and model"
    one = found.get("large", {})
    if "memory" not in one:
        return Target(what, one.get("failed", "not measured"), False if "failed" in one else None)
    return Target(what, f"{one['memory'] / 1024:.2f} GiB in {one['seconds']:.0f} s", one["memory"] <= 3 * 1024)
