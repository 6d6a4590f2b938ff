"""results.json as RESULTS.md with a figure: ``python -m benchmarks.index.report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.tables import table
from benchmarks.index import figures
from benchmarks.throughput import record

FILE = Path(__file__).parent / "results.json"
PAGE = """# The gradient index

Made by `python -m benchmarks.index.run` from `results.json`; run it to renew this page. One thread, process seconds;
seconds belong to the machine: {machine}.

## Agreement with retraining against bytes

Task *mnist-mlp* of [fidelity](../fidelity/RESULTS.md): {p:,} parameters, 5,000 training examples, 500 queries, 100
random halves retrained with two seeds. *Exact* is the dual of the curvature's 5,000 largest rows on gradients kept
whole. Bytes are those of an example in the store, with scales and weight, the blocks' small markers left out; *%* is of
its gradient in float32; *fixed* are the bytes that don't grow with the examples: projector and curvature. *Kept* is the
LDS at the automatic damping over that of the exact GGN at its own. *Best* is the best of {dampings} for
δ, which a user doesn't know: it says what the choice of δ costs. *Scores*: 500 queries projected and scored once, the
first decomposition included.

{picture}{agreement}

## Projection beside peers' projectors

{projecting}

## 100 queries over 1,000,000 rows of 1,000 numbers

Random rows in a local store, the first ten examples of every query; *first* with the checksums of all blocks, *later*
without. *Reading* copies the same bytes from the system's cache to memory: what memory's bandwidth alone takes. *Disk*
reads them past that cache, in wall seconds. *Product* is the bare float32 product of the queries with rows that stay in
the processor's cache: what arithmetic alone takes. Rows in int8 are multiplied as whole numbers, in less time.

{scan}
"""


def write(file: Path = FILE) -> None:
    """RESULTS.md and its figure beside the results."""
    found = record.load(file)
    drawn = figures.write(found.get("agreement", {}), file.parent)
    (file.parent / "RESULTS.md").write_text(markdown(found, drawn=drawn), encoding="utf-8")


def markdown(found: dict[str, Any], *, drawn: bool) -> str:
    """The page; ``drawn``: whether there is a figure."""
    rows = found.get("agreement", {})
    some = next((row for row in rows.values() if "failed" not in row), {"grid": {}})
    exact = rows.get("exact, GGN", {})
    return PAGE.format(
        machine=_machine(found["machine"]),
        p=exact.get("numbers", 0),
        dampings=", ".join(some["grid"]),
        picture=f"![LDS against bytes]({figures.NAME})\n\n" if drawn else "",
        agreement=table(
            ["index", "numbers", "bytes", "%", "fixed, MB", "LDS", "kept", "best", "δ", "build, s", "scores, s"],
            [_agreement(name, row, exact.get("lds")) for name, row in rows.items()],
        ),
        projecting=_projecting(found.get("projecting", {})),
        scan=_scan(found.get("scan", {})),
    )


def _machine(one: dict[str, Any]) -> str:
    return f"{one['processor']}, {one['cores']} cores; Python {one['python']}, torch {one['torch']}"


def _agreement(name: str, row: dict[str, Any], exact: float | None) -> list[str]:
    if "failed" in row:
        return [name, row["failed"], *[""] * 9]
    best = max(row["grid"].values())
    return [
        f"`{name}`" if "(" in name else name,
        f"{row['numbers']:,}",
        f"{row['row_bytes']:,.0f}",
        f"{100 * row['share']:.3g}",
        f"{row['fixed_bytes'] / 1e6:.1f}",
        f"{row['lds']:.3f}",
        "" if not exact else f"{row['lds'] / exact:.1%}",
        f"{best:.3f}",
        f"{row['damping']:.3g}",
        f"{row['build']:.2f}",
        f"{row['scores']:.2f}",
    ]


def _projecting(found: dict[str, Any]) -> str:
    if not found:
        return "Not measured."
    ours = found[OURS]
    head = ["system", "dimension", "ms an example", "× ours, Sparse", "made in, s"]
    lines, examples = [], ours["examples"]
    sparse = {name.split(", ")[1]: row["projected"] for name, row in ours.items() if name.startswith("Sparse")}
    for name, row in ours.items():
        if isinstance(row, dict):
            kind, dimension = name.split(", ")
            lines.append(_line(f"upweight, {kind}", dimension, row, examples, sparse))
    for peer, rows in found.items():
        if peer == OURS:
            continue
        if "failed" in rows:
            lines.append([peer, rows["failed"], "", "", ""])
            continue
        lines += [_line(peer, key, row, rows["examples"], sparse) for key, row in rows.items() if key != "examples"]
    return (
        f"{examples} gradients of *mnist-mlp* on a CPU, in one run. Ours come as factors, in "
        f"{1000 * ours['gradients'] / examples:.3f} ms an example; the peers' are written out before their clock "
        "starts, which is not counted. Peers: their own projectors for a CPU with random signs, all examples in one "
        "call. *Made in*: what is done once (for `Leading`, passes over all 5,000 examples and eigenvectors).\n\n"
        + table(head, lines)
    )


def _line(system: str, dimension: str, row: dict[str, float], examples: int, sparse: dict[str, float]) -> list[str]:
    each = row["projected"] / examples
    return [
        system,
        dimension,
        f"{1000 * each:.3f}",
        f"{row['projected'] / sparse[dimension]:,.1f}",
        f"{row['made']:.2f}",
    ]


def _scan(found: dict[str, Any]) -> str:
    head = [
        "rows in",
        "GB",
        "first, s",
        "later, s",
        "all scores, s",
        "reading, s",
        "GB/s",
        "disk, s",
        "GB/s",
        "product, s",
    ]
    lines = []
    for dtype, row in found.items():
        if "failed" in row:
            lines.append([dtype, row["failed"], *[""] * 8])
            continue
        size = row["bytes"] / 1e9
        lines.append(
            [
                dtype,
                f"{size:.2f}",
                *(f"{row[name]['process']:.2f}" for name in ("first", "later", "scores", "reading")),
                f"{size / row['reading']['process']:.1f}",
                *([f"{row['disk']['wall']:.2f}", f"{size / row['disk']['wall']:.1f}"] if "disk" in row else ["", ""]),
                f"{row['product']['process']:.2f}",
            ]
        )
    return table(head, lines) if lines else "Not measured."


if __name__ == "__main__":
    write()
