"""What the package says when something is wrong: errors that refuse, warnings that carry their figure.

::

    ValueError           InputError                refused before work started
    ArithmeticError      NegativeCurvatureError    no inverse in the sense of influence functions
                         DivergedError             an iteration moved away
    ImportError          MissingExtraError         an extra isn't installed
    UserWarning          UpweightWarning           base of all that follow
      UpweightWarning    NotStationaryWarning      not at an optimum
                         NegativeCurvatureWarning  directions left out of an inverse
                         NotConvergedWarning       stopped before its tolerance
                         SlowPathWarning           correct, but slow
                         SmallerPassesWarning      the device's memory was too small for a pass
                         KinkWarning               an operation nearly undefined
                         DamagedFileWarning        finished work that was cut or altered
                         UndeterminedWarning       an example that alone determines a direction of θ
                         RoughTrainingWarning      a training too rough in its weights for a derivative
                         NoisyWarning              changes no larger than between seeds
                         EndOfGridWarning          the best of a grid is at its end
                         ConstantWarning           nothing to correlate
                         LeverageWarning           more of an approximated curvature than there is
                         DamagedCacheWarning       a data set of the cache that was cut or altered

Errors of one room that nobody else raises stand there: ``files.NotWrittenError``, ``retraining.TrainingFailedError``,
``executors.TaskFailedError`` and ``WorkerDiedError``, ``tasks.AttackError``, ``datasets.UnknownDataset`` and
``DataUnavailable``.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType

PACKAGE = __name__.partition(".")[0]
WRAPPERS = {"beartype", "contextlib", "functools", "jaxtyping", "torch.utils._contextlib"}
"""Modules whose lines stand between a decorated function and its caller."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the user's line: the outermost call into the package, whatever lies between."""
    names = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        names.append(str(frame.f_globals.get("__name__", "")))
        frame = frame.f_back
    outermost = max((k for k, name in enumerate(names) if name.partition(".")[0] == PACKAGE), default=-1)
    user = outermost + 1
    while user < len(names) - 1 and (names[user] in WRAPPERS or names[user].partition(".")[0] in WRAPPERS):
        user += 1
    warnings.warn(message, category, stacklevel=user + 2)  # level 1 is this line, level 2 names[0]


class InputError(ValueError):
    """The input was refused before work started; the message names the argument, the value and the mend."""


class NegativeCurvatureError(ArithmeticError):
    """H + δI is not positive definite, so no inverse in the sense of influence functions exists."""


class DivergedError(ArithmeticError):
    """An iterative inverse moved away from the solution; its last iterate is not returned."""


class MissingExtraError(ImportError):
    """What was asked for needs a package that isn't installed; the message names both and the line that mends it."""


class UpweightWarning(UserWarning):
    """Base of every warning of this package."""


class NotStationaryWarning(UpweightWarning):
    """The parameters are not near an optimum of the objective, where influence functions are derived."""


class NegativeCurvatureWarning(UpweightWarning):
    """Directions of negative curvature were found and left out of an inverse."""


class NotConvergedWarning(UpweightWarning):
    """A solver or a retraining stopped before its tolerance was reached."""


class SlowPathWarning(UpweightWarning):
    """A correct but slow way was taken because the fast one does not apply."""


class SmallerPassesWarning(UpweightWarning):
    """A pass was more than the device's memory holds; smaller ones do the work, to the same result."""


class KinkWarning(UpweightWarning):
    """A training example's gradient is enormous because an operation of the model is nearly undefined there."""


class DamagedFileWarning(UpweightWarning):
    """A file of finished work was cut or altered; it is named, and its work is done again."""
