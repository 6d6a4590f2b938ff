"""The picture of Figure 5."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

import upweight as uw
from experiments.koh_liang import animals

FLIPPED, HELD = "#D55E00", "#0072B2"


def draw(data: animals.Pair, found, random, paper: dict[int, float]) -> Figure:
    """Shares with intervals; p(true) by step; shares by step; two attacks' images."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 0.95), hspace=0.05)
    left, middle, right = top.subplots(1, 3)
    for place, (count, one) in enumerate(found.items()):
        share = one.share()
        ends = [[share.value - share.interval.low], [share.interval.high - share.value]]
        left.errorbar(
            [place], [share.value], ends, fmt="o", color=FLIPPED, capsize=4, label="influence" if not place else None
        )
        left.plot(
            [place - 0.12], [paper[count]], "D", mfc="none", color="0.3", ms=8, label="paper" if not place else None
        )
        share = random[count]["flipped"] / random[count]["trials"]
        left.plot([place + 0.12], [share], "s", color=HELD, label="random changes" if not place else None)
    left.set_xticks(range(len(found)), [f"{count}" for count in found])
    left.set(
        xlim=(-0.5, len(found) - 0.5),
        ylim=(-0.05, 1.05),
        xlabel="training images changed",
        ylabel="share of predictions flipped",
    )
    left.legend(frameon=False, fontsize=8, loc="center", bbox_to_anchor=(0.5, 0.3))
    left.set_title("Flipped, with 95 % intervals", fontsize=10)
    for path, wrong in zip(found[1].probabilities[:, :, 0].numpy(), found[1].flipped[:, 0].numpy(), strict=True):
        middle.plot(path, color=FLIPPED if wrong else HELD, lw=0.8, alpha=0.6 if len(found[1].steps) < 100 else 0.25)
    middle.axhline(0.5, color="0.4", ls="--", lw=0.8)
    middle.set(xlabel="step", ylabel="p(true label) after retraining")
    middle.set_title("One training image changed", fontsize=10)
    most = found[1].settings.iterations
    for (count, one), shade in zip(found.items(), (FLIPPED, "#E69F00", "#009E73"), strict=False):
        steps = torch.where(one.flipped[:, 0], one.steps, most + 1)
        share = [(steps <= step).double().mean() for step in range(most + 1)]
        right.plot(share, color=shade, label=f"{count} training image{'s' * (count > 1)}")
    right.set(xlabel="step", ylabel="share of predictions flipped", ylim=(-0.05, 1.05))
    right.legend(frameon=False, fontsize=8, loc="lower right")
    right.set_title("Flipped by step", fontsize=10)
    pictures(bottom, data, found[1])
    return figure


def pictures(part, data: animals.Pair, found: uw.tasks.Attack) -> None:
    """Of two attacks, flips first: the test image, the training image as stored and as changed, and the change."""
    kept = sorted(range(len(found.changes)), key=lambda number: not found.flipped[number, 0])[:2]
    axes = part.subplots(1, 8)
    for axis in axes:
        axis.set_axis_off()
    for place, number in enumerate(kept):
        query, lever = int(found.targets[number, 0]), int(found.positions[number, 0])
        names = data.names[int(data.test_labels[query])], data.names[int(data.labels[lever])]
        changed = found.perturbed(number)[0].round().to(torch.uint8).numpy()
        p = found.before()[number, 0], found.after()[number, 0]
        change = found.changes[number, 0].mean(0).numpy()
        row = axes[4 * place : 4 * place + 4]
        for axis, image, words in zip(
            row,
            (data.test_images[query], data.images[lever], changed, change),
            (
                f"test: {names[0]}\np(true) {p[0]:.3f} → {p[1]:.3f}",
                f"training: {names[1]}\nas stored",
                "changed, as bytes:\nidentical",
                "the change,\nin levels ±.5",
            ),
            strict=True,
        ):
            if image.ndim == 2:
                axis.imshow(image, cmap="RdBu", vmin=-0.5, vmax=0.5)
            else:
                axis.imshow(image.transpose(1, 2, 0))
            axis.set_title(words, fontsize=8.5)
