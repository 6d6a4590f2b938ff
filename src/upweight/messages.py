"""What the package says when something is wrong: errors that refuse, warnings that carry their figure."""


class InputError(ValueError):
    """The input was refused before work started; the message names the argument, the value and the mend."""


class NegativeCurvatureError(ArithmeticError):
    """H + δI is not positive definite, so no inverse in the sense of influence functions exists."""


class DivergedError(ArithmeticError):
    """An iterative inverse moved away from the solution; its last iterate is not returned."""


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


class KinkWarning(UpweightWarning):
    """A training example's gradient is enormous because an operation of the model is nearly undefined there."""


class DamagedFileWarning(UpweightWarning):
    """A file of finished work was cut or altered; it is named, and its work is done again."""
