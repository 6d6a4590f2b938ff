"""Figure 5: training-set attack. Dog against frog, logistic on frozen EfficientNet-Lite0 features, λ = .001.

For each test image the training images are ranked by ‖∇ₓ I_pert‖₁ and the first 1, 2 or 10 changed by signed gradient
steps of .02 levels within ±.499 of a level, so that the stored bytes stay what they are; the model is retrained after
every step. 64 random test images by default, all of them with FULL=1 (five hours of a core), in portions: with
MINUTES=90 none is begun after that time, and the result is of those finished, still at random. An interrupted run goes
on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
import torch

import upweight as uw
from experiments.koh_liang import animals
from experiments.koh_liang.fig5_figure import draw
from experiments.provenance import code
from experiments.results import Result, Stopwatch, save
from experiments.running import run
from upweight import files
from upweight.tasks.attacks import same_bytes

QUICK, FULL = bool(os.environ.get("QUICK")), bool(os.environ.get("FULL"))
MINUTES = float(os.environ.get("MINUTES", "inf"))
PAPER = {1: 0.57, 2: 0.77, 10: 590 / 591}
IMAGES = 4 if QUICK else None if FULL else 64
PORTION = 2 if QUICK else 16
"""Test images whose attacks with 1, 2 and 10 training images are finished before the next are begun."""
ITERATIONS = 20 if QUICK else 100
OTHER_SIZE, OTHER_IMAGES = 128, 32
FOLDER = os.path.join(os.environ.get("UPWEIGHT_CACHE", platformdirs.user_cache_dir("upweight")), "attacks")

Found = dict[int, uw.tasks.Attack]
"""Attacks by the number of training images that each changes."""


def main() -> None:
    torch.set_num_threads(1)  # so that the numbers don't depend on the machine's cores
    watch = Stopwatch()
    with watch.stage("features"):
        data = animals.pair("dog", "frog", **({"size": 128, "train": 150, "test": 50} if QUICK else {}))
    with watch.stage("training"):
        objective, network = animals.logistic(data), animals.network()
    order, right = rightly_predicted(objective, data)
    attack = partial(attack_pair, objective, network, data)
    with watch.stage("attacks"):
        chosen = order[:IMAGES]
        done = Path(FOLDER) / f"fig5-{len(data.images)}-{data.images.shape[-1]}-{PORTION}-{ITERATIONS}.json"
        found, codes = in_portions(attack, chosen, time.monotonic() + 60 * MINUTES, done)
    with watch.stage("random changes of the same images"):
        random = {count: random_changes(objective, network, data, one) for count, one in found.items()}
    other = None if QUICK else smaller_images(watch)
    shares = {count: one.share() for count, one in found.items()}
    numbers = {
        "test_images": len(data.test_labels),
        "right_before": len(right),
        "stored_size": data.images.shape[-1],
        "step_levels": 0.02,
        "by_count": {str(count): figures_of(found[count], random[count]) for count in found},
        "deepest_first_lever": deepest_first_lever(found[1].levers),
        "from_scratch": check_from_scratch(objective, network, data, found[1]),
        "other_size": other,
        "portions": codes,
    }
    save(
        Result(
            id="fig5",
            title="Fig 5: training-set attack (CIFAR-10 as stand-in)",
            paper="57 % of correctly classified test images flipped by changing 1 training image, 77 % by 2, 590 of "
            "591 by 10",
            ours="; ".join(
                f"{count}: {int(found[count].flipped.sum())} of {found[count].flipped.numel()} = {share.value:.0%} "
                f"[{share.interval.low:.0%}, {share.interval.high:.0%}]"
                for count, share in shares.items()
            )
            + f"; random changes of the same images flip {sum(r['flipped'] for r in random.values())} of "
            f"{sum(r['trials'] for r in random.values())}",
            why=why(numbers),
            numbers=numbers,
            quick=QUICK,
        ),
        {"fig5_attack": draw(data, found, random, PAPER)},
        watch,
    )


def in_portions(
    attack: Callable[..., uw.tasks.Attack], order: torch.Tensor, until: float, done: Path
) -> tuple[Found, list[dict[str, str]]]:
    """The attacks on the first of ``order``, more and more of them until all are done or it is later than ``until``.

    Each portion is kept as it ends, and ``done`` tells by which state of the code; a run that was cut off goes on.
    """
    codes: list[dict[str, str]] = json.loads(done.read_text()) if done.exists() else []
    found: Found = {}
    portions = -(-len(order) // PORTION)
    codes = codes[:portions]
    for portion in range(max(len(codes) - 1, 0), portions):
        if found and time.monotonic() > until:
            break
        for count in PAPER:
            found[count] = attack(order[: PORTION * (portion + 1)], count=count)
        if portion == len(codes):
            codes.append({"code": code()})
            files.write(done, json.dumps(codes))
        flips = ", ".join(f"{int(one.flipped.sum())} by {count}" for count, one in found.items())
        print(f"  {len(found[1].targets)} of {len(order)} test images attacked; flipped {flips}", flush=True)
    return found, codes


def attack_pair(
    objective: uw.Objective,
    network: torch.nn.Module,
    data: animals.Pair,
    targets: torch.Tensor,
    *,
    count: int = 1,
) -> uw.tasks.Attack:
    """The attack with this experiment's settings; what is finished is kept in the user's cache."""
    return uw.tasks.attack(
        *(objective, network, data.images, data.queries),
        aim=uw.tasks.Aim(targets=targets),
        levers=uw.tasks.LeverChoice(count=count, candidates=12),
        climb=uw.tasks.Climb(iterations=ITERATIONS),
        resources=uw.tasks.Resources(keep=8, folder=FOLDER),
    )


def rightly_predicted(objective: uw.Objective, data: animals.Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Test images that are predicted rightly: shuffled, and in order."""
    right = (~uw.tasks.predictions(objective, data.queries).wrong).nonzero().flatten()
    return right[torch.randperm(len(right), generator=torch.Generator().manual_seed(0))], right


def random_changes(
    objective: uw.Objective, network: torch.nn.Module, data: animals.Pair, found: uw.tasks.Attack
) -> dict:
    """Each attack's own training images changed by ±.499 at random, all the way to the box's edge; then retrained."""
    generator = torch.Generator().manual_seed(0)
    flipped, after = 0, []
    for query, levers in zip(found.targets[:, 0], found.positions, strict=True):
        stored = torch.from_numpy(data.images)[levers]
        signs = torch.randint(0, 2, stored.shape, generator=generator) * 2.0 - 1
        levels = stored + found.settings.box.project(stored, 0.499 * signs)
        with torch.no_grad():
            features = network(levels).double()
        theta = uw.retraining.replace(objective, [levers], (features, data.labels[levers])).params[0]
        said = uw.tasks.predictions(objective.at(theta), tuple(side[query][None] for side in data.queries))
        flipped += int(said.wrong[0])
        after.append(float(said.probability(said.given)[0]))
    return {"flipped": flipped, "trials": len(after), "median_p_after": float(np.median(after))}


def smaller_images(watch: Stopwatch) -> dict:
    """The share flipped by one image where the same photos are stored at fewer pixels."""
    with watch.stage(f"stored at {OTHER_SIZE} × {OTHER_SIZE}"):
        data = animals.pair("dog", "frog", size=OTHER_SIZE)
        objective = animals.logistic(data)
        order, right = rightly_predicted(objective, data)
        found = attack_pair(objective, animals.network(), data, order[:OTHER_IMAGES])
    share = found.share()
    return {
        "size": OTHER_SIZE,
        "right_before": len(right),
        "flipped": int(found.flipped.sum()),
        "of": found.flipped.numel(),
        "share": share.value,
        "low": share.interval.low,
        "high": share.interval.high,
    }


def check_from_scratch(objective, network, data: animals.Pair, found: uw.tasks.Attack) -> dict:
    """The first attack's p(true) by a fit from zero on the whole changed training set, beside what the attack said."""
    with torch.no_grad():
        moved = network(found.perturbed(0)).double()
    features = data.features.clone()
    features[found.positions[0]] = moved
    model = torch.nn.Linear(features.shape[1], 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    fitted = uw.retraining.fit(objective.replace(model=model, data=(features, data.labels), parameters=None))
    said = uw.tasks.predictions(fitted, tuple(side[found.targets[0]] for side in data.queries))
    return {"attack": float(found.after()[0, 0]), "from_scratch": float(said.probability(said.given)[0])}


def deepest_first_lever(levers: uw.tasks.Levers) -> int:
    """The lowest rank, from 1, that an attack's first lever has among the candidates by the norm at the features."""
    firsts = levers.feature_norms.gather(1, levers.first(1))
    return int((levers.feature_norms > firsts).sum(1).max()) + 1


def figures_of(found: uw.tasks.Attack, random: dict) -> dict:
    """One count of training images in figures."""
    share = found.share()
    return {
        "attacked": found.flipped.numel(),
        "flipped": int(found.flipped.sum()),
        "share": share.value,
        "low": share.interval.low,
        "high": share.interval.high,
        "median_steps_of_flips": float(found.steps[found.flipped[:, 0]].double().median())
        if found.flipped.any()
        else None,
        "largest_change_levels": float(found.changes.abs().max()),
        "bytes_identical": all(map(same_bytes, found.stored, found.changes)),
        "influence_of_10_strongest": found.levers.concentration(10),
        "seconds": round(found.seconds, 1),
        "random": random,
    }


def why(numbers: dict) -> str:
    """Where ours differs from the paper's, in words with the numbers."""
    other, scratch, counts = numbers["other_size"], numbers["from_scratch"], numbers["by_count"]
    size, deepest = numbers["stored_size"], numbers["deepest_first_lever"]
    attacked = counts["1"]["attacked"]
    differences = [f"{100 * (one['share'] - PAPER[int(count)]):+.0f} with {count}" for count, one in counts.items()]
    seconds = sum(one["seconds"] for one in counts.values())
    parts = [
        f"Stand-ins: CIFAR-10 photos enlarged to {size} × {size} and stored as bytes, EfficientNet-Lite0 (1,280 "
        f"features) for Inception-v3 (2,048); {numbers['right_before']} of {numbers['test_images']} test images are "
        "right at the start (paper: 591 of 600).",
        f"Flips against the paper's, in points: {', '.join(differences)}.",
        "All of these were attacked."
        if attacked == numbers["right_before"]
        else f"A random {attacked} of these were attacked.",
        "Intervals are Wilson's, 95 %.",
        ""
        if other is None
        else f"Fewer pixels make it harder: stored at {other['size']} × {other['size']}, one image flips "
        f"{other['flipped']} of {other['of']} ({other['share']:.0%}).",
        "Every changed image has the stored bytes, which the attack checks.",
        f"The norm at the features chooses 12 candidates; the strongest lever was always among its first {deepest}.",
        "A fit from zero on the whole changed training set gives the first attack's p(true) as "
        f"{scratch['from_scratch']:.4f}, the attack said {scratch['attack']:.4f}.",
        f"The attacks took {seconds:.0f} s on one of two cores shared with other work; what is finished is kept, so "
        "that the stages of a resumed run take less.",
    ]
    return " ".join(part for part in parts if part)


if __name__ == "__main__":
    run(main)
