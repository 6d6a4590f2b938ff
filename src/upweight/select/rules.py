"""Rules by which units are chosen: by what they put out, by the gradient there, by Fisher information, at random.

Lyu et al. 2023 choose, per layer, the int(ratio · units) units of highest or lowest mean output or gradient. Mean and
mean of the absolute value are different criteria, and both are here (``absolute=True``).
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.select.scores import fisher, noise, outputs_and_gradients
from upweight.select.subset import Subset
from upweight.select.trained import Trained
from upweight.select.units import Layer, units

Scope = Literal["layer", "global"]
PLACES = {"layer": "by layer", "global": "over all layers"}
Scores = Callable[[Trained, list[Layer], Any], list[Tensor]]
"""(objective, layers, positions of examples) -> a score for each unit of each layer."""


@dataclass(frozen=True)
class Rule:
    """How to choose units, once a model is there.

    Attributes
    ----------
    scores
        What units are ranked by.
    ratio
        Share of the units: int(ratio · units) of each layer, or of all layers together.
    highest
        Whether the highest are chosen.
    per
        ``layer`` or ``global``.
    words
        The rule in words.
    """

    scores: Scores
    ratio: float
    highest: bool
    per: Scope
    words: str

    def __post_init__(self) -> None:
        scalars.number("ratio", self.ratio, above=0, most=1)
        scalars.one_of("per", self.per, get_args(Scope))

    def of(self, objective: Trained, examples: Any = None) -> Subset:
        """The entries of θ that the rule chooses.

        Parameters
        ----------
        examples
            Positions of the training examples that outputs and gradients are taken of (default: all).

        Raises
        ------
        InputError
            If the model has no units, or the ratio is less than one unit.
        """
        kinds.check(Rule.of, locals())
        layers = units(objective.model, objective.layout)
        if not layers:
            raise InputError(
                "parameters: units belong to linear and convolutional layers, and training changed none; choose by "
                "select.by_name or a mask"
            )
        found = self.scores(objective, layers, examples)
        ranked = [scores if self.highest else -scores for scores in found]
        mask = torch.zeros(objective.p, dtype=torch.bool)
        for layer, chosen in zip(layers, self._chosen(ranked), strict=True):
            mask |= layer.mask(objective.layout, chosen)
        if not mask.any():
            counts = ", ".join(f"{layer.name or 'the layer'} {layer.count}" for layer in layers)
            enough = math.ceil(1000 / (max if self.per == "layer" else sum)(layer.count for layer in layers)) / 1000
            raise InputError(
                f"ratio: {self.ratio:g} is less than one unit of every layer ({counts}); take {enough:g} or more"
                + (", or per='global', which ranks the units of all layers together" if self.per == "layer" else "")
            )
        return Subset(objective.layout, mask, self.words)

    def _chosen(self, ranked: list[Float[Tensor, " _"]]) -> list[Tensor]:
        if self.per == "layer":
            return [scores.topk(int(self.ratio * len(scores))).indices for scores in ranked]
        every = torch.cat(ranked)
        kept = torch.zeros(len(every), dtype=torch.bool)
        kept[every.topk(int(self.ratio * len(every))).indices] = True
        return [part.nonzero().flatten() for part in kept.split([len(scores) for scores in ranked])]


def _share(ratio: float) -> str:
    return f"{scalars.number('ratio', ratio, above=0, most=1):.3g}"


def _rule(scores: Scores, ratio: float, highest: bool, per: Scope, what: str) -> Rule:
    scalars.one_of("per", per, get_args(Scope))
    side = "highest" if highest else "lowest"
    return Rule(scores, ratio, highest, per, f"the {_share(ratio)} of units of {side} {what}, {PLACES.get(per, per)}")


def highest_output(ratio: float, *, per: Scope = "layer", absolute: bool = False) -> Rule:
    """Units whose output is highest in the mean over examples and positions (or its absolute value is).

    Parameters
    ----------
    ratio
        Share of the units, in (0, 1]: int(ratio · units) of them are chosen.
    per
        ``layer`` (default): that share of each layer; ``global``: of all layers together.
    absolute
        Whether the mean is of absolute values.

    Raises
    ------
    InputError
        If one of them is something else.
    """
    return _rule(partial(outputs_and_gradients, "output", absolute), ratio, True, per, _word("output", absolute))


def lowest_output(ratio: float, *, per: Scope = "layer", absolute: bool = False) -> Rule:
    """Units whose output is lowest.

    Parameters
    ----------
    ratio, per, absolute
        As for `highest_output`.
    """
    return _rule(partial(outputs_and_gradients, "output", absolute), ratio, False, per, _word("output", absolute))


def highest_gradient(ratio: float, *, per: Scope = "layer", absolute: bool = False) -> Rule:
    """Units at whose output the gradient of the loss is highest in the mean over examples and positions.

    Parameters
    ----------
    ratio, per, absolute
        As for `highest_output`.
    """
    return _rule(partial(outputs_and_gradients, "gradient", absolute), ratio, True, per, _word("gradient", absolute))


def lowest_gradient(ratio: float, *, per: Scope = "layer", absolute: bool = False) -> Rule:
    """Units at whose output the gradient of the loss is lowest.

    Parameters
    ----------
    ratio, per, absolute
        As for `highest_output`.
    """
    return _rule(partial(outputs_and_gradients, "gradient", absolute), ratio, False, per, _word("gradient", absolute))


def highest_fisher(ratio: float, *, per: Scope = "layer") -> Rule:
    """Units whose entries of θ have the highest mean squared gradient: the diagonal of the empirical Fisher matrix.

    Parameters
    ----------
    ratio, per
        As for `highest_output`.
    """
    return _rule(fisher, ratio, True, per, "mean squared gradient")


def lowest_fisher(ratio: float, *, per: Scope = "layer") -> Rule:
    """Units whose entries of θ have the lowest mean squared gradient.

    Parameters
    ----------
    ratio, per
        As for `highest_output`.
    """
    return _rule(fisher, ratio, False, per, "mean squared gradient")


def random(ratio: float, *, seed: int = 0, per: Scope = "layer") -> Rule:
    """Units at random.

    Parameters
    ----------
    ratio, per
        As for `highest_output`.
    seed
        Of the choice.
    """
    scalars.seed("seed", seed)
    scalars.one_of("per", per, get_args(Scope))
    words = f"a random {_share(ratio)} of units, {PLACES.get(per, per)}, seed {seed}"
    return Rule(partial(noise, seed), ratio, True, per, words)


def by_name(objective: Trained, patterns: str | Sequence[str]) -> Subset:
    """Whole parameters by name or shell pattern, of those that training changed.

    Parameters
    ----------
    objective
        The trained model, of whose θ entries are chosen.
    patterns
        A full name or a shell pattern such as ``*.bias``, or a list of them: what any of them matches is chosen.

    Raises
    ------
    InputError
        If none is given, or one matches none of them.
    """
    kinds.check(by_name, locals())
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    if not wanted:
        raise InputError(f"parameters: got no names; give some of {list(objective.layout.names)}")
    layout = objective.layout
    for pattern in wanted:
        if not isinstance(pattern, str):
            raise InputError(f"parameters: give names or shell patterns; got {scalars.shown(pattern)} among them")
        if not fnmatch.filter(layout.names, pattern):
            raise InputError(
                f"parameters: {pattern!r} matches none of those that training changed, {list(layout.names)}"
            )
    values = {
        name: torch.full(shape, any(fnmatch.fnmatch(name, pattern) for pattern in wanted))
        for name, shape in zip(layout.names, layout.shapes, strict=True)
    }
    return Subset(layout, layout.flatten(values), f"parameters {', '.join(wanted)}")


def _word(what: str, absolute: bool) -> str:
    scalars.flag("absolute", absolute)
    return f"mean |{what}|" if absolute else f"mean {what}"
