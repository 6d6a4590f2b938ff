"""Models as the tools around PyTorch leave them, as objectives: transformers, its Trainer, Lightning, PEFT.

Each door reads the loss as the tool computes it, examples as it collates them, and the penalty that its optimiser's
decay amounts to, and gives an `upweight.Objective` whose ``notes`` say what was read and what is left aside. Callbacks
(`recorders.py`) write down what scores through a training need of it. None of the tools is imported here: whoever has a
trained model of theirs has them.
"""

from upweight.frameworks.lightning import from_lightning
from upweight.frameworks.recorders import lightning_recorder, trainer_recorder
from upweight.frameworks.trainer import from_trainer
from upweight.frameworks.transformers import from_transformers

__all__ = ["from_lightning", "from_trainer", "from_transformers", "lightning_recorder", "trainer_recorder"]
