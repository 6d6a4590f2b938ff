"""What a model gains by decisions: the same held-out examples, before and after, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float

from upweight.errors import InputError
from upweight.evaluation.bootstrap import Bootstrap, draw
from upweight.explore.decisions import Decision
from upweight.report.numbers import readable, signed
from upweight.store.backend import Backend
from upweight.store.sealed import seal, unseal

NAME = "cleaned.json"
ACCURACY, LOSS = "accuracy", "mean loss"
ABSOLUTE, ROOT_SQUARE = "mean absolute error", "root mean square error"
"""Figures of a quantity, in its own unit."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A figure of a model on held-out examples, before and after.

    Attributes
    ----------
    name
        Such as ``accuracy``.
    before, after
        Means over the examples; of the root mean square error the root of that of squares.
    low, high
        95 % interval of ``after − before``: of right and wrong answers exact, by the examples that changed sides; of
        other values by examples resampled in pairs.
    higher_is_better
        Whether a rise is a gain.
    """

    name: str
    before: float
    after: float
    low: float
    high: float
    higher_is_better: bool

    @property
    def change(self) -> float:
        """After − before."""
        return self.after - self.before

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference that could not be chance``."""
        if not self.low > 0 and not self.high < 0:
            return "no difference that could not be chance"
        return "better" if (self.low > 0) == self.higher_is_better else "worse"

    @property
    def words(self) -> tuple[str, str, str, str, str]:
        """The figures as a table has them."""
        if self.name == ACCURACY:
            return (
                self.name, f"{self.before:.2%}", f"{self.after:.2%}", f"{100 * self.change:+.2f} points",
                f"{100 * self.low:+.2f} to {100 * self.high:+.2f} points",
            )  # fmt: skip
        return (
            self.name, readable(self.before, 4), readable(self.after, 4), signed(self.change),
            f"{signed(self.low)} to {signed(self.high)}",
        )  # fmt: skip


@dataclass(frozen=True)
class Cleaned:
    """What applying decisions came to.

    Attributes
    ----------
    when
        UTC.
    relabelled, excluded
        Training examples.
    figures
        Empty where nothing was retrained.
    notes
        What else is to be known.
    files
        What was written, by name.
    answer
        What was changed: ``label``, or ``value`` of a quantity.
    """

    when: str
    relabelled: int
    excluded: int
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    answer: str = "label"

    @property
    def changes(self) -> str:
        """How many were changed and left out, in words."""
        answers = f"{self.relabelled:,} {self.answer}{'s' * (self.relabelled != 1)}"
        return f"{answers} changed, {self.excluded:,} example{'s' * (self.excluded != 1)} left out"

    @property
    def verdict(self) -> str:
        """What came of it, in a sentence."""
        if not self.figures:
            return "The cleaned data were written; the model was not trained again, so nothing is compared."
        told = []
        for each in self.figures:
            name, before, after, change, interval = each.words
            told.append(f"{name} went from {before} to {after} ({change}, 95 % interval {interval}): {each.verdict}")
        return f"On held-out examples {'; '.join(told)}."

    def keep(self, place: Backend) -> None:
        """Put it into a store.

        Raises
        ------
        upweight.files.NotWrittenError
            If it can't be written.
        """
        place.write(NAME, seal(asdict(self)))

    @classmethod
    def of(cls, place: Backend) -> Cleaned | None:
        """The last one of a store; None where there is none, or it was cut or altered."""
        content = place.read(NAME)
        said = None if content is None else unseal(content)
        if said is None:
            return None
        try:
            figures = tuple(Figure(**each) for each in said.pop("figures"))
            return cls(figures=figures, notes=tuple(said.pop("notes")), **said)
        except (KeyError, TypeError):
            return None


def now() -> str:
    """The time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def compared(
    name: str,
    before: Float[np.ndarray, " examples"],
    after: Float[np.ndarray, " examples"],
    *,
    higher_is_better: bool,
    seed: int = 0,
) -> Figure:
    """A figure of the same examples under two models.

    Parameters
    ----------
    name
        What the figure is, such as ``accuracy``; of the ``root mean square error`` values are errors.
    before, after
        Its value for each example, ``[examples]``: under the model as it was, and under the one trained anew.
    higher_is_better
        Whether a rise is an improvement.
    seed
        Of the resampling behind the interval of the difference.

    Raises
    ------
    InputError
        If they aren't of as many examples, or there are fewer than two.
    """
    if before.shape != after.shape or before.ndim != 1 or len(before) < 2:
        raise InputError(f"examples: two or more, the same before and after; got {before.shape} and {after.shape}")
    if np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all():
        low, high = _of_flips(int((after > before).sum()), int((after < before).sum()), len(before))
    elif name == ROOT_SQUARE:
        return _of_roots(before**2, after**2, seed)
    else:
        interval = Bootstrap(RESAMPLES, seed=seed).of_mean(after - before)
        low, high = interval.low, interval.high
    return Figure(name, float(before.mean()), float(after.mean()), low, high, higher_is_better)


def _of_roots(before: np.ndarray, after: np.ndarray, seed: int) -> Figure:
    """Roots of the means of squares, and the interval of their difference by examples resampled in pairs."""
    resampling, count = Bootstrap(RESAMPLES, seed=seed), len(before)
    drawn = draw(RESAMPLES, count, resampling.generator())
    roots = [np.sqrt(drawn @ squares / count) for squares in (before, after)]
    means = [float(np.sqrt(squares.mean())) for squares in (before, after)]
    interval = resampling.interval(roots[1] - roots[0], means[1] - means[0])
    return Figure(ROOT_SQUARE, means[0], means[1], interval.low, interval.high, higher_is_better=False)


def _of_flips(gained: int, lost: int, examples: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies on the same examples, some of which changed sides.

    Of those that changed, Clopper & Pearson's interval (1934) of the share that was gained: it leaves 0 out where
    McNemar's exact test says that it isn't chance. None changed: so few that none was seen.
    """
    from scipy.stats import binomtest  # half a second, which the page doesn't need

    changed = gained + lost
    if not changed:
        reach = 1 - float(0.025 ** (1 / examples))
        return -reach, reach
    share = binomtest(gained, changed).proportion_ci(0.95, method="exact")
    return (2 * share.low - 1) * changed / examples, (2 * share.high - 1) * changed / examples


def changes(standing: Mapping[int, Decision], labels: np.ndarray | None) -> tuple[dict[int, str], list[int]]:
    """New labels by position, and positions that are left out.

    Parameters
    ----------
    standing
        The decision that counts for each example, by position (`Decisions.standing`).
    labels
        Of the data as they are now, as text; None where they have none.

    Raises
    ------
    InputError
        If an example's label isn't the one that a decision was about.
    """
    relabelled, excluded = {}, []
    for position, decision in sorted(standing.items()):
        given = None if labels is None else str(labels[position])
        if given is not None and decision.old not in ("", given):
            raise InputError(
                f"decisions: example {decision.id} had the label {decision.old!r} when it was decided about, and has "
                f"{given!r} now; undo the decision, or bring the data back"
            )
        if decision.what == "exclude":
            excluded.append(position)
        elif decision.what == "relabel":
            if given is None:
                raise InputError(f"decisions: example {decision.id} was relabelled, and the data have no labels")
            relabelled[position] = decision.new
    return relabelled, excluded
