"""Generalised influence: how a chosen part of θ answers to a change of the data (Lyu et al. 2023)."""

from upweight.quantities.generalized.changes import Relabelling, Removal, Substitution
from upweight.quantities.generalized.equations import Equations
from upweight.quantities.generalized.methods import generalized
from upweight.quantities.generalized.response import Method, Response

__all__ = ["Equations", "Method", "Relabelling", "Removal", "Response", "Substitution", "generalized"]
