"""The words, units and signs of every quantity, in one place."""

from __future__ import annotations

from upweight.attribution import Quantity
from upweight.losses import AnyLoss
from upweight.measurements import Measurement

CONVENTIONS = {
    False: "the other examples keep their weight 1/n",
    True: "the mean is taken over the examples left, the l2 penalty stays",
}

EVALUATED = {
    True: "evaluated one Newton step away, which is the refit for squared error without damping",
    False: "linearised in the Newton step that takes the example's own curvature away",
}
"""How a leverage-corrected change comes about, by whether outputs are linear in θ."""


def _convention(renormalize: bool, leverage: bool, evaluated: bool, steps: int = 1) -> str:
    come = (
        EVALUATED[evaluated]
        if steps == 1
        else f"evaluated after the Newton steps that lead to the refit, up to {steps}"
    )
    return f"{CONVENTIONS[renormalize]}; {come}" if leverage else CONVENTIONS[renormalize]


def _meaning(measurement: Measurement, change: str) -> tuple[str, int]:
    """What a positive change says about the example, and the sign of helpful examples' scores."""
    sign = -measurement.helpful_sign
    verdict = {1: "the example was helpful", -1: "the example was harmful", 0: "it pulled the value down"}[sign]
    return f"{verdict}: the {measurement.name} rises {change}", sign


def removal(
    measurement: Measurement,
    loss: AnyLoss,
    *,
    renormalize: bool = False,
    leverage: bool = False,
    evaluated: bool = False,
    group: bool = False,
    steps: int = 1,
) -> Quantity:
    """Predicted change of the query's measurement if the example, or the group, were left out.

    ``evaluated``: of a leverage-corrected one, whether the measurement is evaluated at the moved outputs;
    ``steps``: how many Newton steps at most.
    """
    convention = _convention(renormalize, leverage or evaluated, evaluated, steps)
    what = "these training examples were" if group else "this training example were"
    positive, sign = _meaning(measurement, "without them" if group else "without it")
    name = "group removal" if group else "removal"
    return Quantity(
        name=f"{name}, leverage-corrected" if leverage else name,
        words=f"predicted change of the query's {measurement.name} if {what} left out ({convention})",
        unit=measurement.unit(loss),
        positive=positive,
        helpful_sign=sign,
    )


def upweight(measurement: Measurement, loss: AnyLoss) -> Quantity:
    """I_up: derivative of the query's measurement by the weight ε of one example (Koh & Liang 2017, eq. 2)."""
    return Quantity(
        name="upweight",
        words=f"derivative of the query's {measurement.name} by the weight ε added to this example's loss",
        unit=f"{measurement.unit(loss)} per unit of ε (removal is ε = −1/n)",
        positive=f"more weight raises the {measurement.name}",
        helpful_sign=measurement.helpful_sign,
    )


def self_influence(
    loss: AnyLoss, *, renormalize: bool = False, leverage: bool = False, evaluated: bool = False
) -> Quantity:
    """Removal of an example, seen by its own loss."""
    return Quantity(
        name="self-influence, leverage-corrected" if leverage else "self-influence",
        words="predicted change of the example's own loss if it were left out of training "
        f"({_convention(renormalize, leverage, evaluated)})",
        unit=loss.unit,
        positive="training on the example lowers its own loss; large: it is fitted against the rest",
        helpful_sign=0,
    )


def replacement(measurement: Measurement, loss: AnyLoss, what: str) -> Quantity:
    """Predicted change of the query's measurement if an example were replaced by another."""
    return Quantity(
        name=what,
        words=f"predicted change of the query's {measurement.name} if this training example were replaced "
        f"({what}) at the same weight",
        unit=measurement.unit(loss),
        positive=f"the {measurement.name} rises with the replacement",
        helpful_sign=-measurement.helpful_sign,
    )


def tracin(measurement: Measurement, loss: AnyLoss, *, normalize: bool) -> Quantity:
    """Decrease of the query's measurement by the steps taken on one example, summed over checkpoints."""
    sign = -measurement.helpful_sign
    verdict = {1: "the example was helpful", -1: "the example was harmful", 0: "it pulled the value down"}[sign]
    words = f"predicted decrease of the query's {measurement.name} by the gradient steps taken on this example"
    return Quantity(
        name="TracIn, normalised" if normalize else "TracIn",
        words=f"{words}, gradients scaled to length 1" if normalize else words,
        unit="sum of learning rates times cosine" if normalize else measurement.unit(loss),
        positive=f"{verdict}: its steps lower the {measurement.name}",
        helpful_sign=sign,
    )


def source(measurement: Measurement, loss: AnyLoss) -> Quantity:
    """Change of the query's measurement if an example had been left out of all segments of a training."""
    positive, sign = _meaning(measurement, "without it")
    return Quantity(
        name="SOURCE",
        words=f"predicted change of the query's {measurement.name} if this training example had been left out of this "
        "training, by segments of constant curvature",
        unit=measurement.unit(loss),
        positive=positive,
        helpful_sign=sign,
    )


def tracin_self(loss: AnyLoss) -> Quantity:
    """Decrease of an example's own loss by its own steps."""
    return Quantity(
        name="TracIn self-influence",
        words="predicted decrease of the example's own loss by the gradient steps taken on it",
        unit=loss.unit,
        positive="its steps lower its own loss; large: the rest of the data does not explain it",
        helpful_sign=0,
    )


def replayed_removal(measurement: Measurement, loss: AnyLoss, weight: float) -> Quantity:
    """Change of the query's measurement by training without an example: minus its derivative by the example's weight.

    A name for itself: it is of the training as it ran, where `removal` is of the minimum of the objective.
    """
    positive, sign = _meaning(measurement, "without it")
    return Quantity(
        name="removal by replay",
        words=f"predicted change of the query's {measurement.name} if this training example were left out of the "
        f"training, every step of it ({_replayed(weight)})",
        unit=measurement.unit(loss),
        positive=positive,
        helpful_sign=sign,
    )


def weight_derivative(measurement: Measurement, loss: AnyLoss, weight: float) -> Quantity:
    """Derivative of the trained model's measurement by the weight of a training example."""
    return Quantity(
        name="weight derivative",
        words=f"derivative of the query's {measurement.name} by the weight of this example's loss in training "
        f"({_replayed(weight)})",
        unit=f"{measurement.unit(loss)} per unit of weight (removal is −1)",
        positive=f"more weight raises the {measurement.name}",
        helpful_sign=measurement.helpful_sign,
    )


def _replayed(weight: float) -> str:
    where = "the training given" if weight == 1 else f"training with every weight times {weight:g}, not the model given"
    return f"exact derivative at {where}; same seed and batches, means over as many examples"


def trak(measurement: Measurement, loss: AnyLoss) -> Quantity:
    """Change of the query's measurement by having an example in the training data (Park et al. 2023)."""
    return Quantity(
        name="TRAK",
        words=f"predicted change of the query's {measurement.name} by training on this example",
        unit=measurement.unit(loss),
        positive=f"training on it raises the {measurement.name}",
        helpful_sign=measurement.helpful_sign,
    )


def trak_self(measurement: Measurement, loss: AnyLoss) -> Quantity:
    """The same of an example's own output."""
    return Quantity(
        name="TRAK self-influence",
        words=f"predicted change of the example's own {measurement.name} by training on it",
        unit=measurement.unit(loss),
        positive=f"training on it raises its own {measurement.name}",
        helpful_sign=0,
    )


def similarity(name: str, words: str, unit: str) -> Quantity:
    """A baseline without curvature."""
    return Quantity(name=name, words=words, unit=unit, positive="more similar to the query", helpful_sign=1)
