"""Derivatives of a per-example value f_i(θ) with respect to the selected parameters.

One interface, two implementations: `AutogradFunction` for any model, and `LinearFunction` where the outputs
are linear in θ, which never materialises what its factors can do. Layout: θ is flat ``[p]``; blocks of
vectors are rows ``[k, p]``; batches are what the data yields. Nothing here knows what was minimised.
"""

from upweight.gradients.autograd import AutogradFunction
from upweight.gradients.choose import example_function
from upweight.gradients.interface import ExampleFunction
from upweight.gradients.linear import LinearFactors, LinearFunction

__all__ = ["AutogradFunction", "ExampleFunction", "LinearFactors", "LinearFunction", "example_function"]
