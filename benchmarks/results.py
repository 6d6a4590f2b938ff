"""The measurements as results.json, as RESULTS.md, and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent
NAMES = {"CG": "upweight CG", "default": "upweight dense", "peer": "pyDVL"}
HEAD = ["system", "prepare", "factors", "values", "total", "MiB", "× ours", "× floor"]

FEW = 5
"""Gradients that perturbation influence of a pair may cost."""


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The comparison, one row per system."""
    compared = found["comparison"]
    ours = compared["systems"]["CG"]["stages"]["total"]
    lines = []
    for name, system in compared["systems"].items():
        stages = system["stages"]
        lines.append(
            [
                NAMES[name],
                *(f"{stages[stage]:.3f}" for stage in ("prepare", "factors", "values", "total")),
                f"{system['memory']:.0f}",
                f"{stages['total'] / ours:.1f}",
                f"{stages['total'] / compared['floor']:.0f}",
            ]
        )
    return lines


def claims(found: dict[str, Any]) -> list[list[str]]:
    """Each target with what was measured."""
    compared = found["comparison"]
    total = {name: system["stages"]["total"] for name, system in compared["systems"].items()}
    cpu = {name: system["stages"]["processor"] for name, system in compared["systems"].items()}
    variants = compared["peer_variants"]
    worst = max(max(parts.values()) for parts in compared["differences"].values())
    lines = [
        _claim(
            f"pyDVL's time over upweight's, CG beside its best ({compared['peer_variant']})",
            total["peer"] / total["CG"],
            10,
            least=True,
        ),
        _claim(
            "the same, upweight's default inverse beside its best", total["peer"] / total["default"], 10, least=True
        ),
        _claim(
            "the same, CG beside its default (queries one by one; extrapolated)",
            variants["one by one"] / total["CG"],
            10,
            least=True,
        ),
        _claim("the same in processor seconds, CG beside its best", cpu["peer"] / cpu["CG"], 10, least=True),
        _claim("largest difference of the answers, relative", worst, 1e-4),
    ]
    for name, one in found["cg"].items():
        what = f"CG, {one['queries']} queries over one: {name}, n={one['n']:,}, p={one['p']:,}"
        lines.append(_claim(what, one["ratio"], 10))
    for name, one in found["perturbation"].items():
        lines.append(
            _claim(
                f"perturbation of a pair over one example's gradient: {name}", one["pair_over_example_gradient"], FEW
            )
        )
        lines.append(
            _claim(f"the same with its solve, over a full gradient: {name}", one["with_solve_over_full_gradient"], None)
        )
    small, large = found["memory"]
    lines.append(
        _claim(
            f"memory growth, n {small['n']:,} → {large['n']:,} at batch 500 (MLP)",
            large["memory"] / small["memory"],
            1.1,
        )
    )
    return lines


def _claim(what: str, value: float, bound: float | None, *, least: bool = False) -> list[str]:
    shown = f"{value:.1e}" if value < 0.01 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
    if bound is None:
        return [what, shown, "", ""]
    met = value >= bound if least else value < bound
    return [what, shown, f"{'≥' if least else '<'} {bound:g}", "yes" if met else "no"]


def show(found: dict[str, Any], console: Console) -> None:
    """The two tables on a terminal."""
    for title, head, lines in (
        (f"100 queries, MNIST 1 vs 7: seconds, medians of {found['repeats']} runs", HEAD, rows(found)),
        ("Targets", ["what", "measured", "target", "met"], claims(found)),
    ):
        table = Table(title=title, box=box.SIMPLE_HEAD)
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if number else "left")
        for line in lines:
            table.add_row(*line)
        console.print(table)


def write(found: dict[str, Any]) -> None:
    """results.json, and RESULTS.md from it."""
    (FOLDER / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (FOLDER / "RESULTS.md").write_text(markdown(found))


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    machine, compared = found["machine"], found["comparison"]
    cg = "\n".join(
        f"- {name}: one query {one['one']:.2f} s in {one['iterations_one'][0]} iterations, {one['queries']} queries "
        f"{one['all']:.2f} s in {one['iterations_all']} (all residuals ≤ {one['residual_all']:.0e}); "
        f"one forward and backward {one['floor']:.3f} s"
        for name, one in found["cg"].items()
    )
    variants = "\n".join(f"- {name}: {seconds:.2f} s" for name, seconds in compared["peer_variants"].items())
    differences = ", ".join(
        f"{NAMES[name]}: factors {parts['factors']:.1e}, values {parts['values']:.1e}"
        for name, parts in compared["differences"].items()
    )
    cpu = ", ".join(f"{NAMES[name]} {one['stages']['processor']:.2f}" for name, one in compared["systems"].items())
    return f"""# Speed beside a peer

Made by `python -m benchmarks.run` from `results.json`; run it to renew this page. Ratios count: all systems ran in
turn on the same machine ({machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} threads for each),
in their own processes and environments ({", ".join(found["pins"])} for the peer), float32.

## MNIST 1 vs 7: factors of {compared["queries"]} queries, and their values on all training data

n={compared["n"]:,}, p={compared["p"]:,}, λ = .01. Seconds, medians of {found["repeats"]} runs; relative residual
{compared["tolerance"]:.0e} for all. MiB: peak growth over data and model. × floor: multiples of one plain forward and
backward over the training data ({compared["floor"]:.3f} s).
upweight's time includes its checks (finite data, losses, optimum); the peer makes none.

{_table(HEAD, rows(found))}

Processor seconds of the whole: {cpu}. Largest differences from the peer's answers: {differences}.

The peer's settings, of which the fastest ({compared["peer_variant"]}) stands above (one by one: extrapolated from five
queries):

{variants}

## Targets

{_table(["what", "measured", "target", "met"], claims(found))}

{cg}
"""


def _table(head: list[str], lines: list[list[str]]) -> str:
    ruler = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ruler, *lines))
