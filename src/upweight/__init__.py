"""upweight: which training examples made a model do this, and what would change without them."""

from upweight import curvature, inverse, losses, measurements
from upweight.objective import Objective

__all__ = ["Objective", "curvature", "inverse", "losses", "measurements"]
