"""How unlearning goes: its steps, how their lengths are judged, and samples that stand for all examples."""

from __future__ import annotations

from dataclasses import dataclass

from upweight import kinds, scalars


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Steps of generalised influence, each re-linearised: curvature and gradient are taken anew at each θ.

    Parameters
    ----------
    steps
        How many.
    search
        Choose each step's length on held-out training examples (default: the computed length), and δ for the next one:
        four times as large after a step that had to be shortened, half as large after one that was lengthened.
    holdout
        Share of the training examples that no step is computed from, if there is a search.
    sample
        How many of the examples that change, and as many of the others, stand for all of them, drawn anew for each
        step; the judge of lengths too looks at so many (default: all).

    Raises
    ------
    InputError
        If steps or sample aren't whole numbers of at least 1, or the share isn't between 0 and 1.
    """

    steps: int = 1
    search: bool = False
    holdout: float = 0.1
    sample: int | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("steps", self.steps)
        scalars.number("holdout", self.holdout, above=0, below=1)
        if self.sample is not None:
            scalars.whole("sample", self.sample)
