"""Fitted inverses as tensors with facts beside them, and back: K-FAC, EK-FAC, the diagonal, the dual."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from upweight.curvature import Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.rows import Draws, sampleable
from upweight.errors import InputError
from upweight.gradients import Shape
from upweight.inverse import Solver
from upweight.inverse.dual import DualRows, DualSolver, RowsOperator, metric_levels
from upweight.inverse.eigenbasis import EigenSolver
from upweight.inverse.kfac import FactoredSolver
from upweight.objective import Objective

SIDES = ("left", "right")


def packed(solver: Solver) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors, and facts of JSON's kinds; None of an inverse that has no such form."""
    if isinstance(solver, EigenSolver | FactoredSolver):
        return _packed_eigen(solver)
    return _packed_dual(solver) if isinstance(solver, DualSolver) else None


def unpacked(objective: Objective, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Solver:
    """What `packed` gave, for the objective that it was fitted to.

    Raises
    ------
    InputError
        If the objective's layers are others.
    """
    held = {name: value.to(objective.device) for name, value in tensors.items()}
    return (
        _unpacked_dual(objective, held, facts) if facts["form"] == "dual" else _unpacked_eigen(objective, held, facts)
    )


def packed_bases(bases: tuple[Basis, ...]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Eigenvectors by block and side, and what the blocks are."""
    tensors = {
        f"{number}.{side}": vectors
        for number, basis in enumerate(bases)
        for side, vectors in zip(SIDES, (basis.left, basis.right), strict=True)
        if vectors is not None
    }
    return tensors, [{**asdict(basis.shape), "flat": basis.flat} for basis in bases]


def unpacked_bases(objective: Objective, tensors: dict[str, Tensor], blocks: list[dict[str, Any]]) -> tuple[Basis, ...]:
    """What `packed_bases` gave.

    Raises
    ------
    InputError
        If the objective's layers are others.
    """
    known = set(objective.engine.function.plan.shapes)
    found = []
    for number, block in enumerate(blocks):
        shape = Shape(**{name: value for name, value in block.items() if name != "flat"})
        if known and shape not in known:
            raise InputError(
                f"store: its factors are of a block {shape.weight!r} [{shape.rows}, {shape.columns}], which this "
                "objective doesn't have; give the objective that they were fitted to"
            )
        left, right = (tensors.get(f"{number}.{side}") for side in SIDES)
        found.append(Basis(shape, left, right, block["flat"]))
    return tuple(found)


def _packed_eigen(solver: EigenSolver | FactoredSolver) -> tuple[dict[str, Tensor], dict[str, Any]]:
    operator = solver.operator
    tensors, blocks = packed_bases(operator.bases)
    facts = {"name": operator.name, "penalized": operator.penalized, "damping": solver.damping, "blocks": blocks}
    if isinstance(solver, FactoredSolver):
        for number, sides in enumerate(solver.sides):
            tensors |= {f"{number}.{side}.values": values for side, values in zip(SIDES, sides, strict=True)}
        return tensors, {"form": "factored", **facts}
    tensors |= {f"{number}.values": values for number, values in enumerate(operator.values)}
    settings = {"tolerance": solver.tolerance, "query_rank": solver.query_rank, "own_pass": solver.own_pass}
    return tensors, {"form": "eigen", **facts, **settings}


def _unpacked_eigen(objective: Objective, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Solver:
    bases, name, damping = unpacked_bases(objective, tensors, facts["blocks"]), facts["name"], facts["damping"]
    if facts["form"] == "factored":
        sides = tuple(
            (tensors[f"{number}.left.values"], tensors[f"{number}.right.values"]) for number in range(len(bases))
        )
        values = tuple(torch.outer(left, right) for left, right in sides)
        return FactoredSolver(EigenOperator(objective, bases, values, name, facts["penalized"]), damping, sides)
    values = tuple(tensors[f"{number}.values"] for number in range(len(bases)))
    operator = EigenOperator(objective, bases, values, name, facts["penalized"])
    return EigenSolver(operator, damping, facts["tolerance"], facts["query_rank"], facts["own_pass"])


def _packed_dual(solver: DualSolver) -> tuple[dict[str, Tensor], dict[str, Any]]:
    rows = solver.dual.rows
    tensors = {"gram": solver.gram, "positions": rows.positions, "weights": rows.weights}
    facts = {"form": "dual", "name": rows.name, "share": rows.share, "damping": solver.damping}
    facts |= {"memory": solver.dual.memory}
    if isinstance(rows.cotangents, Draws):
        return tensors, {**facts, "samples": rows.cotangents.samples, "seed": rows.cotangents.seed}
    if isinstance(rows.cotangents, Tensor):
        tensors["cotangents"] = rows.cotangents
    return tensors, facts


def _unpacked_dual(objective: Objective, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Solver:
    cotangents: Tensor | Draws | None = tensors.get("cotangents")
    if "samples" in facts:
        cotangents = Draws(sampleable(objective), facts["samples"], facts["seed"])
    positions = tensors["positions"].cpu()
    rows = Rows(objective, positions, cotangents, tensors["weights"], facts["share"], facts["name"])
    levels, groups = metric_levels(objective)
    kept = DualRows(rows, groups, facts["memory"])
    return DualSolver(RowsOperator(objective, rows, rows.name), facts["damping"], kept, levels, tensors["gram"])
