"""Parts of θ: whole units (an output row or channel with its bias), whole parameters, or any entries.

A *rule* (``select.highest_output(0.05)``) says how to choose and meets a model later; a `Subset` is what was chosen,
and says exactly how many entries it holds. Both go where parameters are asked for: `Influence.generalized`, and as
``Objective(parameters=subset)``, whose θ is then the chosen entries alone, all others held fixed.
"""

from upweight.select.rules import (
    Rule,
    by_name,
    highest_fisher,
    highest_gradient,
    highest_output,
    lowest_fisher,
    lowest_gradient,
    lowest_output,
    random,
)
from upweight.select.subset import Subset, everything, masked
from upweight.select.units import Layer, units

__all__ = [
    "Layer",
    "Rule",
    "Subset",
    "by_name",
    "everything",
    "highest_fisher",
    "highest_gradient",
    "highest_output",
    "lowest_fisher",
    "lowest_gradient",
    "lowest_output",
    "masked",
    "random",
    "units",
]
