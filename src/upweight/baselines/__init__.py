"""Attributions that need no curvature of the objective: what influence must beat to be worth its cost."""

from upweight.baselines import similarity
from upweight.baselines.tracin import TracIn
from upweight.baselines.trak import TRAK

__all__ = ["TRAK", "TracIn", "similarity"]
