"""Scores in a store, without the model: what is asked for is read, and no more of it."""

from upweight.stored.stored import Stored

__all__ = ["Stored"]
