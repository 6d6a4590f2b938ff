"""What influence must beat to be worth its cost: no curvature of the objective, or that along a training (`SOURCE`)."""

from upweight.baselines import similarity
from upweight.baselines.source import SOURCE
from upweight.baselines.tracin import TracIn
from upweight.baselines.trak import TRAK

__all__ = ["SOURCE", "TRAK", "TracIn", "similarity"]
