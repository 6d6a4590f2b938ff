"""Draw the picture of the README: ``python docs/overview.py`` writes docs/images/overview.png."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import upweight as uw

TRAIN, SHOWN, LEFT_OUT = 1200, 4, 60


def main() -> None:
    """Train, explain the worst mistake, verify, draw."""
    images, labels = load_digits(return_X_y=True)
    train, test = (images[:TRAIN] / 16, labels[:TRAIN]), (images[TRAIN:] / 16, labels[TRAIN:])
    model = torch.nn.Linear(64, 10, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    objective = uw.retraining.fit(uw.Objective(model, uw.losses.CrossEntropy(), train, l2=0.003))
    predicted = objective.outputs(test).argmax(1)
    worst = int((objective.losses(test) * (predicted != torch.as_tensor(test[1]))).argmax())
    query = (test[0][worst : worst + 1], test[1][worst : worst + 1])
    influence = uw.Influence(objective)
    attribution = influence.attribute(query, leverage_corrected=True)
    proof = influence.verify(query, k=LEFT_OUT, leverage_corrected=True)

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.6, 1])
    rows = left.subplots(2, SHOWN + 1)
    picture(rows[0, 0], query[0][0], f"labelled {query[1][0]}, taken for a {predicted[worst]}")
    rows[1, 0].set_axis_off()
    for row, ranking, colour in ((0, attribution.top(SHOWN), "#1b6e3c"), (1, attribution.bottom(SHOWN), "#a8321f")):
        for axis, position, score in zip(rows[row, 1:], ranking.positions[0], ranking.scores[0], strict=True):
            picture(axis, train[0][position], f"a {train[1][position]}: {score:+.3f} nats", colour)
    left.suptitle("without it, the query's loss would rise (green) or fall (red) by", fontsize=9)
    axis = right.subplots()
    axis.scatter(proof.predicted, proof.actual, s=14, color="#2c5f8a", alpha=0.8, linewidths=0)
    ends = [float(proof.actual.min()), float(proof.actual.max())]
    axis.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    axis.set_xlabel("predicted, leverage-corrected [nats]")
    axis.set_ylabel("actual change of the loss [nats]")
    axis.set_title(f"{LEFT_OUT} left out one by one: r = {proof.pearson:.4f}, slope {proof.slope:.3f}", fontsize=9)
    target = Path(__file__).parent / "images" / "overview.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=110)
    print(f"wrote {target.name}: {proof}")


def picture(axis, image, title: str, colour: str = "black") -> None:
    """A digit with a line above it."""
    axis.imshow(image.reshape(8, 8), cmap="gray_r")
    axis.set_title(title, fontsize=8, color=colour)
    axis.set_axis_off()


if __name__ == "__main__":
    main()
