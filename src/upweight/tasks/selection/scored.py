"""How much each example of a pool helps on a reference set, by method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from upweight import scalars
from upweight.attribution import Attribution
from upweight.baselines import TRAK, TracIn, similarity
from upweight.data import Data
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.quantities import meanings

Method = Literal["influence", "tracin", "trak", "similarity", "bm25", "random"]
METHODS = ("influence", "tracin", "trak", "similarity", "bm25", "random")


@dataclass(frozen=True)
class Sources:
    """What some methods need beside the model: checkpoints and their learning rates, texts, a seed."""

    checkpoints: Any = None
    learning_rates: float | Sequence[float] = 1.0
    texts: Sequence[str] | None = None
    reference_texts: Sequence[str] | None = None
    seed: int = 0


def attributed(influence: Influence, reference: Data, method: Method, sources: Sources) -> Attribution:
    """Scores ``[reference, train]`` by a method.

    Raises
    ------
    InputError
        If the method needs what wasn't given.
    """
    objective = influence.objective
    if method == "influence":
        return influence.attribute(reference)
    if method == "tracin":
        states = [objective.params] if sources.checkpoints is None else sources.checkpoints
        return TracIn(objective, states, sources.learning_rates).attribute(reference)
    if method == "trak":
        try:
            trak = TRAK(objective, sources.checkpoints, seed=sources.seed)
        except InputError:  # a loss without a margin
            trak = TRAK(objective, sources.checkpoints, seed=sources.seed, measurement="loss")
        return trak.attribute(reference)
    if method == "similarity":
        return similarity.gradient_cosine(objective, reference)
    if method == "bm25":
        return _by_words(influence, reference, sources)
    drawn = torch.rand(objective.n, generator=scalars.generator(sources.seed), dtype=torch.float64)
    meaning = meanings.similarity("random", "a random number", "none")
    return Attribution(drawn.expand(len(reference), -1), meaning, objective.ids, np.arange(len(reference)))


def _by_words(influence: Influence, reference: Data, sources: Sources) -> Attribution:
    objective = influence.objective
    for name, texts, size in (
        ("texts", sources.texts, objective.n),
        ("reference_texts", sources.reference_texts, len(reference)),
    ):
        if texts is None or isinstance(texts, str) or len(texts) != size:
            raise InputError(f"{name}: BM25 reads words; give a list of {size} texts, one for each example")
    assert sources.texts is not None
    assert sources.reference_texts is not None
    return similarity.bm25(sources.texts, sources.reference_texts, ids=list(objective.ids))


def helpfulness(attribution: Attribution) -> Float[np.ndarray, " train"]:
    """Mean over the reference set, in float64, large where an example helps."""
    sign = -1 if attribution.quantity.helpful_sign < 0 else 1
    return sign * attribution.matrix.double().mean(0).cpu().numpy()
