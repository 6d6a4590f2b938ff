"""The picture of one training image against 30 test images."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

KINDS = {"strong views": "#56B4E9", "middling views": "#0072B2", "slight views": "#332288"}
DIFFERENT, PUBLISHED = "#D55E00", "0.4"


def draw(rows: list[dict[str, Any]], groups: dict[str, list[dict[str, Any]]], of: int, paper: int) -> Figure:
    """Flips by what was changed; flips against how alike the targets are; flips by step."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    for place, (change, found) in enumerate(groups.items()):
        for number, row in enumerate(found):
            shift = 0.36 * (number - (len(found) - 1) / 2) / max(len(found) - 1, 1)
            strongest = row["lever"] == "strongest"
            left.plot(
                row["at_best"],
                place + shift,
                "o" if strongest else "^",
                color=colour(change),
                mfc=colour(change) if strongest else "none",
                ms=5,
            )
    left.axvline(paper, color=PUBLISHED, ls="--", lw=0.8)
    left.set_yticks(range(len(groups)), list(groups), fontsize=8)
    left.invert_yaxis()
    left.set(xlim=(-1, of + 1), xlabel=f"of {of} test images wrong, at the best step")
    left.set_title("One change at a time (△ chosen by confidence or label)", fontsize=9)
    for kind in ("different animals", *KINDS):
        chosen = [row for row in rows if kind_of(row["change"]) == kind]
        if not chosen:
            continue
        middle.scatter(
            [row["mean_cosine_of_pulls"] for row in chosen],
            [row["at_best"] for row in chosen],
            c=colour(chosen[0]["change"]),
            s=[6 + 6 * max(row["median_margin"], 0) for row in chosen],
            alpha=0.7,
            label=kind.replace("views", "views of one dog"),
        )
        for row in chosen:
            right.plot(row["flips_by_step"], color=colour(row["change"]), lw=0.8, alpha=0.6)
    for axis in (middle, right):
        axis.axhline(paper, color=PUBLISHED, ls="--", lw=0.8)
        axis.set_ylim(-1, of + 1)
    middle.text(middle.get_xlim()[0], paper, f" paper: {paper} of {of}", fontsize=8, color=PUBLISHED, va="bottom")
    middle.set(xlabel="mean cosine of the targets, in the metric of H⁻¹", ylabel=f"of {of} test images wrong")
    middle.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1, 0.4))
    middle.set_title("How alike the targets are (area: their median margin)", fontsize=9)
    right.set(xlabel="step", xlim=(0, 100 if len(rows) > 10 else None))
    right.set_title("By step", fontsize=9)
    return figure


def kind_of(change: str) -> str:
    """Whether the targets are views of one animal, and how strong ones."""
    return next((kind for kind in KINDS if change.startswith(kind)), "different animals")


def colour(change: str) -> str:
    return KINDS.get(kind_of(change), DIFFERENT)
