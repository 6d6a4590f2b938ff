"""Replay: exact derivatives of a training by the weights of its examples, through the optimiser's own steps.

A training is *declared* (`declared.py`), a seed and weights make a *run* of it (`run.py`), whose states are *kept* now
and then (`trajectory.py`); the *reverse pass* (`reverse.py`) goes back through them for a block of queries at a time.
Optimisers are functions of a state and a gradient (`optimizers.py`), and are differentiated as they stand.
Weights: a step minimises (1/B) Σ w_i ℓ_i over its B examples, whatever their weights.
"""

from upweight.replay.optimizers import SGD, Adam, AdamW
from upweight.replay.plan import ReplayPlan
from upweight.replay.replay import Replay
from upweight.replay.smoothness import Metasmoothness, RoughTrainingWarning

__all__ = ["SGD", "Adam", "AdamW", "Metasmoothness", "Replay", "ReplayPlan", "RoughTrainingWarning"]
