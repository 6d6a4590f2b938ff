"""Figure 4: what a prediction is learned from. RBF-SVM on pixels against logistic regression on EfficientNet-Lite0.

CIFAR-10 dog against frog and dog against horse, 900 + 300 images per class, as stand-ins for the paper's dog against
fish; λ = .001 in both. The SVM's features are the Cholesky factor of its kernel matrix; it is trained on the hinge, and
influence taken at SmoothHinge(.001). All test images count; one is shown for each pair.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.svm import LinearSVC

import upweight as uw
from experiments.koh_liang import animals
from experiments.results import Result, Stopwatch, save
from experiments.running import run
from upweight.errors import NotStationaryWarning
from upweight.estimators.kernel import Kernel, KernelFeatures

QUICK = bool(os.environ.get("QUICK"))
PAIRS = [("dog", "frog")] if QUICK else [("dog", "frog"), ("dog", "horse")]
TEMPERATURE = 0.001
PAPER_PIXELS = 299 * 299 * 3
SVM, FEATURES = "RBF-SVM on pixels", "logistic on EfficientNet"
COLOURS = ("#0072B2", "#D55E00")


def main() -> None:
    watch = Stopwatch()
    numbers, figures = {}, {}
    for first, second in PAIRS:
        name = f"{first}/{second}"
        with watch.stage(f"{name}: features"):
            sizes = {"train": 150, "test": 50} if QUICK else {}
            data = animals.pair(first, second, **sizes)
        with watch.stage(f"{name}: training"):
            svm, svm_queries = kernel_machine(data)
            models = {SVM: svm, FEATURES: animals.logistic(data)}
        with watch.stage(f"{name}: influence of all test images"), warnings.catch_warnings():
            # The hinge's optimum is none of the smoothed risk, as in Figure 3.
            warnings.simplefilter("ignore", NotStationaryWarning)
            compared = uw.tasks.compare_models(
                models, {SVM: svm_queries, FEATURES: data.queries}, data.images, data.test_images
            )
        print(compared, flush=True)
        shown = chosen(compared)
        numbers[name] = {"shown": shown, **{model: figures_of(one) for model, one in compared.models.items()}}
        figures[f"fig4_{first}_{second}"] = draw(data, compared, shown)
    first, more = numbers[f"{PAIRS[0][0]}/{PAIRS[0][1]}"], list(numbers)[1:]
    save(
        Result(
            id="fig4",
            title="Fig 4: understanding a model (CIFAR-10 as stand-in)",
            paper="RBF-SVM: influence falls with distance, and only images of the same class help; Inception: almost "
            "uncorrelated with distance, images of both classes help (for one test image)",
            ours=in_words("dog/frog", first)
            + "".join("; " + in_words(name, numbers[name]) for name in more)
            + " (means over the test images with 95 % intervals)",
            why="The SVM's kernel sees pixels, so only what is near in pixels can speak for a prediction, and only "
            f"with its own label; {1 - first[SVM]['influential']['median']:.0%} of its training images are no support "
            "vectors and have no influence, near or far, which weakens the correlation over all images. The network's "
            "features put images together that are far apart in pixels, and one of the other class helps by showing "
            "what the class is not. Stand-ins: CIFAR-10 photos enlarged to 224 × 224 for the paper's ImageNet dogs and "
            "fish, EfficientNet-Lite0 for Inception-v3; γ is the paper's, times the ratio of the numbers of pixels, so "
            "that γ‖x − x′‖² has the paper's scale.",
            numbers=numbers,
            quick=QUICK,
        ),
        figures,
        watch,
    )


def squared_distances(images: np.ndarray, others: np.ndarray) -> torch.Tensor:
    """‖x − x′‖² of pixels scaled to −1 … 1, exact: whole levels in float64, a part of the pixels at a time."""
    rows, columns = (torch.from_numpy(side).flatten(1) for side in (images, others))
    total = torch.zeros(len(rows), len(columns), dtype=torch.float64)
    for a, b in zip(rows.split(8192, dim=1), columns.split(8192, dim=1), strict=True):
        a, b = a.double(), b.double()
        total += (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return total / 127.5**2


def kernel_machine(data: animals.Pair) -> tuple[uw.Objective, tuple[torch.Tensor, torch.Tensor]]:
    """The hinge machine without bias as a smoothed objective at its weights, and the test images as its queries."""
    n, gamma = len(data.images), 0.05 / 1800 * PAPER_PIXELS / data.images[0].size
    gram, rows = (torch.exp(-gamma * squared_distances(x, data.images)) for x in (data.images, data.test_images))
    features = KernelFeatures(Kernel("precomputed"), gram)
    train, query = features.factor, features(rows)
    machine = LinearSVC(
        loss="hinge", C=1 / (n * animals.L2), fit_intercept=False, tol=1e-6, max_iter=100_000, random_state=0
    ).fit(train.numpy(), data.labels.numpy())
    model = torch.nn.Linear(n, 1, bias=False, dtype=torch.float64)
    model.weight.data[0] = torch.from_numpy(machine.coef_[0])
    loss = uw.losses.SmoothHinge(TEMPERATURE)
    return uw.Objective(model, loss, (train, data.labels), l2=animals.L2), (query, data.test_labels)


def chosen(compared: uw.tasks.Comparison) -> int:
    """The test image that both models predict rightly with the median loss of the feature model among those."""
    right = [model.predicted == model.distance.query_labels for model in compared.models.values()]
    both = torch.stack(right).all(0).nonzero().flatten()
    size = compared.models[FEATURES].distance.helpfulness[both].abs().sum(1)
    return int(both[size.argsort()[len(both) // 2]])


def figures_of(model: uw.tasks.ComparedModel) -> dict[str, dict[str, float]]:
    """Means over the test images with bootstrap intervals, and the share that is predicted rightly."""
    found = {
        "accuracy": {"mean": float((model.predicted == model.distance.query_labels).double().mean())},
        "influential": {"median": float(model.distance.influential.double().mean(1).median())},
    }
    table = model.distance.to_pandas().drop(columns="query")
    for column in table:
        values = table[column].to_numpy(dtype=float)
        interval = uw.evaluation.Bootstrap().of_mean(values)
        found[column] = {
            "mean": float(np.nanmean(values)),
            "low": interval.low,
            "high": interval.high,
            "median": float(np.nanmedian(values)),
            "undefined": int(np.isnan(values).sum()),
        }
    return found


def in_words(name: str, found: dict) -> str:
    """One pair's figures in a sentence."""
    parts = []
    for model in (SVM, FEATURES):
        rho, among, share = (
            "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**found[model][figure])
            for figure in ("rho_influence_distance", "rho_among_influential", "same_class_share")
        )
        parts.append(
            f"{model}: ρ(|influence|, distance) = {rho}, among images with any influence {among}, share of the same "
            f"class among the 20 most helpful {share}, median {found[model]['same_class_share']['median']:.2f}"
        )
    return f"{name}: " + ", ".join(parts)


def draw(data: animals.Pair, compared: uw.tasks.Comparison, shown: int) -> Figure:
    """Left: influence against distance for one test image, by class; right: it, and what helped and harmed it most."""
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    rows = figure.subfigures(2, 1, hspace=0.04)
    for part, (name, model) in zip(rows, compared.models.items(), strict=True):
        left, right = part.subfigures(1, 2, width_ratios=(1, 1.55))
        axes = left.subplots()
        scores, distances = (side[shown].numpy() for side in (model.distance.helpfulness, model.distance.distances))
        for label, (animal, colour) in enumerate(zip(data.names, COLOURS, strict=True)):
            mine = data.labels.numpy() == label
            axes.scatter(
                distances[mine], scores[mine], s=7, color=colour, marker="o^"[label], label=animal, lw=0, alpha=0.6
            )
        axes.axhline(0, color="0.6", lw=0.7)
        rho = model.distance.correlation(among="influential")[shown]
        share = model.distance.same_class_share()[shown]
        axes.set_title(f"{name}\nρ(|influence|, distance) = {rho:.2f}; same class {share:.0%} of 20", fontsize=10)
        axes.set_xlabel("Euclidean distance in pixels (levels 0 … 255)")
        axes.set_ylabel("predicted rise of the loss\nwithout the image")
        axes.legend(frameon=False, fontsize=9, markerscale=2)
        axes.locator_params(axis="x", nbins=6)
        pictures = right.subplots(2, 6)
        explanation = model.explanation
        for row, (side, ranking) in enumerate((("helpful", explanation.helpful), ("harmful", explanation.harmful))):
            positions, values = ranking.positions[shown].tolist(), ranking.scores[shown].tolist()
            pictures[row, 0].set_axis_off()
            for axis, place, value in zip(pictures[row, 1:], positions, values, strict=True):
                animal = data.names[int(data.labels[place])]
                show(axis, data.images[place], f"{side}: {animal}\n{value:+.1e}", COLOURS[int(data.labels[place])])
        show(pictures[0, 0], data.test_images[shown], f"test: {data.names[int(data.test_labels[shown])]}", "black")
    return figure


def show(axis, image: np.ndarray, words: str, colour: str) -> None:
    """One image, its words in the colour of its class."""
    axis.imshow(image.transpose(1, 2, 0))
    axis.set_title(words, fontsize=8, color=colour)
    axis.set_axis_off()
    axis.set_visible(True)


if __name__ == "__main__":
    run(main)
