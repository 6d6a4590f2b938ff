"""The scores that are compared, each of training passages for passages that no model has seen."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from benchmarks.fidelity import environments

import upweight as uw
from experiments.facts.peer import kronfluence
from experiments.language.passages import Passages
from experiments.language.training import LOSS, SETTINGS, SHAPE, Trained
from experiments.language.truth import FOLDER, batch

EKFAC, CG, PEER = "EK-FAC", "EK-FAC + CG", "kronfluence EK-FAC"
ITERATIONS, MULTIPLE = 3, 1000.0
"""Of conjugate gradients, from EK-FAC's answer on, and its damping over EK-FAC's own automatic one."""
DIMENSION = 1024
"""Of TRAK's projections."""
OWN = {CG: [ITERATIONS, MULTIPLE], "TRAK": [DIMENSION]}
"""Settings of a method."""
SECONDS = "processor seconds"

Scores = dict[str, uw.Attribution]


def objective_of(trained: Trained, given: Passages) -> uw.Objective:
    """The mean loss of the passages at the end of training."""
    return uw.Objective(trained.model, LOSS, batch(given.train), ids=given.ids)


def solver(ekfac: uw.inverse.Solver, multiple: float = MULTIPLE) -> uw.inverse.CG:
    """The GGN of all layers together, of which EK-FAC knows each layer alone, and that by Kronecker products."""
    damping = multiple * ekfac.damping
    return uw.inverse.CG(
        uw.curvature.GGN(),
        damping=damping,
        preconditioner=ekfac.with_damping(damping),
        tolerance=0.01,
        max_iterations=ITERATIONS,
    )


def scores(objective: uw.Objective, trained: Trained, given: Passages, seed: int) -> Scores:
    """``[queries, train]`` by each method; what a run cut off had finished is read back."""
    asked = batch(given.queries)
    ekfac = uw.Influence(objective, uw.inverse.EKFAC())
    tracin = uw.TracIn(objective, trained.checkpoints, trained.rates)
    methods: dict[str, Callable[[], uw.Attribution]] = {
        "BM25": lambda: uw.similarity.bm25(given.texts, given.query_texts),
        "gradient dot product": lambda: uw.similarity.gradient_dot(objective, asked),
        "gradient cosine": lambda: uw.similarity.gradient_cosine(objective, asked),
        f"TracIn, {len(trained.rates)} checkpoints": lambda: tracin.attribute(asked),
        "TRAK": lambda: uw.TRAK(objective, dimension=DIMENSION, measurement="loss").attribute(asked),
        "automatic choice": lambda: uw.Influence(objective).attribute(asked),
        EKFAC: lambda: ekfac.attribute(asked),
        CG: lambda: ekfac.with_inverse(solver(ekfac.solver)).attribute(asked),
    }
    try:
        made = cache(partial(by_kronfluence, environments.python("kronfluence"), trained, given))
        methods[PEER] = lambda: made()["its default damping"]
        methods[f"{PEER}, heuristic damping"] = lambda: made()["its heuristic damping"]
    except environments.Unavailable as reason:
        print(f"  kronfluence can't be used here: {reason}")
    return {name: kept(name, seed, method) for name, method in methods.items()}


def by_kronfluence(peer: Path, trained: Trained, given: Passages) -> Scores:
    """The peer's scores by damping, made in its own environment."""
    made = kronfluence(
        peer,
        {
            "shape": {"vocabulary": len(given.characters), **SHAPE},
            "train": (given.train, given.train),
            "queries": (given.queries, given.queries),
            "checkpoints": trained.checkpoints[-1:],
            "own": False,
        },
    )
    meaning = uw.Quantity("influence", "kronfluence's score", "n × nats", "the passage helped")
    ids = np.array(given.ids), np.array(given.query_ids)
    return {damping: uw.Attribution(pairs[-1], meaning, *ids) for damping, (pairs, _) in made.items()}


def kept(name: str, seed: int, method: Callable[[], uw.Attribution]) -> uw.Attribution:
    """A method's scores of a model with the processor seconds that they took, from `FOLDER` if they are there."""
    settings = json.dumps([SETTINGS, name, OWN.get(name), seed])
    place = FOLDER / "scores" / hashlib.sha256(settings.encode()).hexdigest()[:16]
    if not place.exists():
        began = spent()
        found = method()
        place.parent.mkdir(parents=True, exist_ok=True)
        replace(found, facts=found.facts | {SECONDS: spent() - began}).save(place)
    return uw.Attribution.load(place)


def spent() -> float:
    """Seconds of the processor so far, by this process and those that it waited for."""
    return sum(os.times()[:4])
