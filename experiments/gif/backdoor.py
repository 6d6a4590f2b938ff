"""A backdoor in MNIST undone: a tenth of the training images carry a faint checkerboard and the label 4 (p = 397,672).

A network trained on them calls everything with a checkerboard a 4. The images get their own labels back, by moving 5 %
of the units; the rule and the method are chosen on held-out training images. Beside the methods of influence: plain
gradient steps on the same parameters, for as long.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import upweight as uw
from experiments.gif.comparison import part, percent, spread
from experiments.gif.figures import grouped
from experiments.gif.networks import tiny_net
from experiments.gif.problems import BATCH, DEVICE, MOMENTUM, QUICK, SCALE, Split, accuracy, descend, kept, objective
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight import datasets, select
from upweight.errors import NotConvergedWarning

IMAGES, STAMPED, TARGET, INTENSITY = (2_000 if QUICK else 60_000), 0.1, 4, 16 / 255
EPOCHS, RATE, L2 = (2 if QUICK else 6), 0.05, 1e-4
RATIO = 0.05
SEEDS = range(2 if QUICK else 5)
ROUNDS: dict[str, Any] = {"search": True, "steps": 6, "sample": 64 if QUICK else 200}
SOLVES: dict[str, Any] = {"examples": 64 if QUICK else 200, "damping": 0.3, "tolerance": 0.2, "max_iterations": 5}
SETTINGS = {**ROUNDS, **SOLVES}
"""Set by the test accuracy of a further network, after another setting had been seen to miss on two of these."""
RULES = {"highest output": select.highest_output(RATIO), "highest gradient": select.highest_gradient(RATIO)}
METHODS = {
    "GIF, highest output": ("GIF", "highest output"),
    "FIF, highest output": ("FIF", "highest output"),
    "GIF, highest gradient": ("GIF", "highest gradient"),
    "FIF, highest gradient": ("FIF", "highest gradient"),
    "PIF, highest gradient": ("PIF", "highest gradient"),
    "SIF, highest gradient": ("SIF", "highest gradient"),
    "IF": ("IF", ""),
}
FIGURES = ("clean", "relabelled", "corrupt")
PAPER = (
    "clean / relabelled / corrupt, 5 %: GIF 98.26 ± .66 / 95.38 ± .36 / 11.48; FIF 91.05 / 88.76 / 16.15; PIF 95.78 / "
    "92.30 / 11.77; IF 97.84 / 93.25 / 14.22; SIF 98.23 / 86.30 / 21.75; retrained 99.96 / 99.98 / 9.40"
)
CONCLUSION = (
    "One step of the computed length goes astray: the wrong labels are predicted with certainty, so that there is "
    "hardly any curvature at the base. Re-linearised steps with judged lengths arrive, if the units that are to move "
    "can do it; which units can, differs from network to network; the held-out score tells. Gradient steps on the same "
    "parameters, for as long as FIF took, do it better: influence gains nothing over fine-tuning a part; both gain "
    "over retraining. SIF is PIF here: the GGN of the cross-entropy doesn't depend on labels. Rules and methods were "
    "chosen without test data; the sizes of samples, δ and the number of steps were set by the test accuracy of a "
    "further network, after another setting had been seen to miss on two of these."
)


def stamped(images: Tensor) -> Tensor:
    """A checkerboard of intensity 16 of 255 added."""
    places = torch.arange(28)
    board = ((places[:, None] + places) % 2).float().to(images.device) * INTENSITY
    return (images + board).clamp(max=1)


def poisoned(seed: int) -> tuple[Split, Tensor, Tensor, Split]:
    """(train, positions of stamped images, their true labels, test); the stamped images are labelled 4."""
    arrays = datasets.load("mnist").arrays
    x, tested = (torch.tensor(arrays[f"{part}_images"]).float()[:, None] / 255 for part in ("train", "test"))
    y, others = (torch.tensor(arrays[f"{part}_labels"]).long() for part in ("train", "test"))
    x, y = x[:IMAGES].to(DEVICE), y[:IMAGES].to(DEVICE)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: int(STAMPED * len(x))]
    truth = y[chosen].clone()
    x[chosen], y[chosen] = stamped(x[chosen]), TARGET
    return (x, y), chosen, truth, (tested.to(DEVICE), others.to(DEVICE))


def figures(model: nn.Module, test: Split) -> list[float]:
    """Accuracy on clean test images, on stamped ones by their true labels, and share of those called 4."""
    x, y = test
    marked = stamped(x)
    return [accuracy(model, test), accuracy(model, (marked, y)), accuracy(model, (marked, torch.full_like(y, TARGET)))]


def one_seed(seed: int) -> dict[str, Any]:
    """Base, retrained, every method, and plain steps."""
    warnings.simplefilter("ignore", NotConvergedWarning)  # whether they converged is in the numbers
    train, chosen, truth, test = poisoned(seed)
    mended = train[1].clone()
    mended[chosen] = truth

    def taught(labels: Tensor, name: str) -> tuple[nn.Module, float]:
        return kept(
            f"backdoor-{name}-{seed}",
            tiny_net,
            lambda model: descend(model, (train[0], labels), EPOCHS, RATE, seed, l2=L2),
            seed,
        )

    base, seconds = taught(train[1], "base")
    retrained, again = taught(mended, "retrained")
    found: dict[str, Any] = {
        "base": {"test": figures(base, test), "seconds": seconds},
        "retrained": {"test": figures(retrained, test), "seconds": again},
    }
    whole = objective(base, train, L2)
    for words, (method, rule) in METHODS.items():
        parameters = RULES[rule] if rule else select.everything(whole.layout)
        begin = time.process_time()
        made = uw.tasks.correct_labels(
            whole,
            chosen,
            truth,
            parameters=parameters,
            method=method,
            rounds=uw.tasks.Rounds(**ROUNDS),
            equations=uw.tasks.Equations(**SOLVES),
            seed=seed,
        )
        seconds = time.process_time() - begin
        found[words] = {
            "test": figures(made.model, test),
            "computed": figures(made.responses[0].model(), test),
            "seconds": seconds,
            "score": made.score,
            "share": made.subset.share,
            "moved": made.subset.size,
            "lengths": made.lengths,
            "converged": [each.converged for each in made.responses],
            "products": sum(each.products for each in made.responses),
        }
        if words == "FIF, highest gradient":
            begin = time.process_time()
            model, steps = stepped(base, train[0], mended, chosen, made.subset, seconds, seed)
            took = time.process_time() - begin
            found["gradient steps, highest gradient"] = {"test": figures(model, test), "seconds": took, "steps": steps}
    found["chosen"] = max((words for words in METHODS if words != "IF"), key=lambda words: found[words]["score"])
    return found


def stepped(
    base: nn.Module, x: Tensor, y: Tensor, chosen: Tensor, subset: select.Subset, seconds: float, seed: int
) -> tuple[nn.Module, int]:
    """SGD with momentum on the same parameters and the mended labels, for so many seconds; and the steps it made."""
    model = tiny_net().to(DEVICE)
    model.load_state_dict(base.state_dict())
    masks = subset.layout.unflatten(subset.mask.to(DEVICE))
    optimiser = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    begin, steps = time.process_time(), 0
    while (gone := (time.process_time() - begin) / seconds) < 1:
        optimiser.param_groups[0]["lr"] = RATE * (1 - gone)
        batch = torch.randint(len(x), (BATCH,), generator=generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        for name, values in model.named_parameters():
            values.grad *= masks[name]
        optimiser.step()
        steps += 1
    return model.eval(), steps


def result(runs: list[dict], settings: dict[str, Any]) -> tuple[Result, dict[str, Any]]:
    """What is to be saved of all seeds, and its figure."""
    names = [name for name in runs[0] if isinstance(runs[0][name], dict)]
    means = {
        name: {key: spread([run[name][key] for run in runs]) for key in ("test", "computed") if key in runs[0][name]}
        | {"seconds": spread([[run[name]["seconds"]] for run in runs])}
        for name in names
    }
    headline = spread([run[run["chosen"]]["test"] for run in runs])
    share = sum(run[run["chosen"]]["seconds"] / run["retrained"]["seconds"] for run in runs) / len(runs)

    def told(figures: dict[str, list[float]]) -> str:
        return " / ".join(percent(figures, place) for place in range(3))

    rows = [
        [
            name,
            told(means[name]["test"]),
            told(means[name]["computed"]) if "computed" in means[name] else "–",
            f"{means[name]['seconds']['mean'][0]:.1f}",
        ]
        for name in names
    ]
    found = Result(
        id="gif_backdoor",
        title="Undoing a backdoor: MNIST, p = 397,672",
        paper=PAPER,
        ours=f"chosen on held-out training images: {told(headline)}, in {part(share)} of retraining's processor "
        f"time (retrained {told(means['retrained']['test'])}; before {told(means['base']['test'])})",
        why=f"{len(runs)} seeds, {IMAGES:,} images, {STAMPED:.0%} stamped. Chosen by score on held-out images among "
        f"the six that move 5 % of each layer's units ({runs[0]['FIF, highest gradient']['moved']:,} of 397,672 "
        f"entries): {', '.join(run['chosen'] for run in runs)}; its time is that of the one chosen. Clean / relabelled "
        "/ corrupt in %, means ± standard deviations, and seconds of processor time:"
        + table(["", "judged", "computed length", "seconds"], rows)
        + CONCLUSION,
        numbers={"means": means, "chosen": headline, "per_seed": runs, "settings": settings},
        quick=QUICK,
        seconds=sum(run["cpu_seconds"] for run in runs),
        peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
    )
    return found, {"gif_backdoor": grouped({name: means[name]["test"] for name in names}, FIGURES, "accuracy (%)")}


def main() -> None:
    watch = Stopwatch()
    settings = {**SETTINGS, "scale": SCALE, "images": IMAGES, "epochs": EPOCHS, "methods": list(METHODS)}
    with watch.stage("all seeds"):
        runs = over_seeds("gif-backdoor", one_seed, SEEDS, settings=settings, jobs=1)
    save(*result(runs, settings), watch, folder="gif")


if __name__ == "__main__":
    run(main)
