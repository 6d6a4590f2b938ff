"""Passes over the training data: one memory budget for all of them, and one place for what is kept between them."""

from upweight.engine.budget import Budget
from upweight.engine.engine import Engine

__all__ = ["Budget", "Engine"]
