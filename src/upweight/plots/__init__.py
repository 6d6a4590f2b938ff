"""Figures of attributions, as pure functions from arrays to a matplotlib ``Figure``.

Conventions of this room:

- Arrays may be numpy, torch (any device, any float type) or nested lists. Nothing given is changed.
- A figure belongs to the caller: it is never registered with pyplot, so there is nothing to close; save it
  with ``figure.savefig`` or put it into a ``upweight.report.Report``.
- Blue stands for positive and vermilion for negative scores (Okabe and Ito's palette, safe for the
  colour-blind); marker, line style, side of zero or words say the same as the colour.
- User text is drawn as it is: a ``$`` in an example's id is a dollar sign, not mathematics.
- Functions are loaded at first use: `checks` serves results that may never be drawn, and needs no matplotlib.
- Empty, mismatched or non-finite input raises ``InputError`` (a ``ValueError``) naming the argument, the
  value and the mend.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from upweight.optional import imported
from upweight.plots.checks import Values

if TYPE_CHECKING:
    from upweight.plots.agreement import predicted_against_actual
    from upweight.plots.attacks import attack_paths, changed_images
    from upweight.plots.bands import curves_with_bands
    from upweight.plots.by_ratio import accuracy_by_ratio
    from upweight.plots.classwise import classwise_bars
    from upweight.plots.fidelity import correlation_histogram
    from upweight.plots.fixing import accuracy_after_fixing
    from upweight.plots.group import group_by_rank
    from upweight.plots.histogram import score_histogram
    from upweight.plots.images import example_grid, perturbation
    from upweight.plots.intervals import estimates
    from upweight.plots.leverage import measure_by_row, residuals_by_leverage
    from upweight.plots.pictured import pixels
    from upweight.plots.ranking import ranking_bars
    from upweight.plots.recovery import recovery_curve
    from upweight.plots.residuals import residual_curves
    from upweight.plots.scatter import influence_against

__all__ = [
    "Values",
    "accuracy_after_fixing",
    "accuracy_by_ratio",
    "attack_paths",
    "changed_images",
    "classwise_bars",
    "correlation_histogram",
    "curves_with_bands",
    "estimates",
    "example_grid",
    "group_by_rank",
    "influence_against",
    "measure_by_row",
    "perturbation",
    "pixels",
    "predicted_against_actual",
    "ranking_bars",
    "recovery_curve",
    "residual_curves",
    "residuals_by_leverage",
    "score_histogram",
]

_HOMES = {
    "accuracy_after_fixing": "fixing",
    "accuracy_by_ratio": "by_ratio",
    "attack_paths": "attacks",
    "changed_images": "attacks",
    "classwise_bars": "classwise",
    "correlation_histogram": "fidelity",
    "curves_with_bands": "bands",
    "estimates": "intervals",
    "example_grid": "images",
    "group_by_rank": "group",
    "influence_against": "scatter",
    "measure_by_row": "leverage",
    "perturbation": "images",
    "pixels": "pictured",
    "predicted_against_actual": "agreement",
    "ranking_bars": "ranking",
    "recovery_curve": "recovery",
    "residual_curves": "residuals",
    "residuals_by_leverage": "leverage",
    "score_histogram": "histogram",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'upweight.plots' has no attribute {name!r}")
    with imported("plots", f"plots.{name}"):
        return getattr(import_module(f"upweight.plots.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
