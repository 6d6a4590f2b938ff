"""Derivatives of a per-example value f_i(θ) with respect to the selected parameters.

One interface, three implementations: `LinearFunction` where the outputs are linear in θ, `FactoredFunction` for any
other model, by factors of its operations, and `AutogradFunction`, which needs nothing but differentiation. None
materialises what factors can do. Layout: θ is flat ``[p]``; blocks of vectors are rows ``[k, p]``; batches are what
the data yields. Nothing here knows what was minimised.
"""

from upweight.gradients.autograd import AutogradFunction
from upweight.gradients.blocks import Block, Gradients, Shape
from upweight.gradients.choose import example_function
from upweight.gradients.factored import FactoredFunction
from upweight.gradients.interface import ExampleFunction
from upweight.gradients.linear import LinearFactors, LinearFunction
from upweight.gradients.output_curvature import OutputCurvature, Whole

__all__ = [
    "AutogradFunction",
    "Block",
    "ExampleFunction",
    "FactoredFunction",
    "Gradients",
    "LinearFactors",
    "LinearFunction",
    "OutputCurvature",
    "Shape",
    "Whole",
    "example_function",
]
