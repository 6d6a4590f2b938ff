"""What is unlearnt: image data, a network trained on them, and one trained without a class; kept on disk by seed.

The scale is small: narrower networks, fewer epochs, 10,000 images of CIFAR-10. ``FULL=1`` takes the paper's widths, all
images and more epochs, for a GPU. SVHN can't be had; Fashion-MNIST stands in.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import upweight as uw
from experiments import states
from experiments.gif.networks import resnet18, vgg11
from upweight import datasets

Split = tuple[Tensor, Tensor]
QUICK, FULL = bool(os.environ.get("QUICK")), bool(os.environ.get("FULL"))
SCALE = "quick" if QUICK else "full" if FULL else "small"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MADE = Path(__file__).parent / ".made"
TESTED = 500 if QUICK else 10_000 if FULL else 2_000
L2, BATCH, MOMENTUM = 5e-4, 128, 0.9
FORGOTTEN = 0
"""The class that is removed, as in the paper."""


@dataclass(frozen=True)
class Study:
    """A data set with its network and training.

    Attributes
    ----------
    most
        Training images, at most.
    steps
        Of unlearning.
    flips
        Whether images are mirrored at random in training.
    """

    data: str
    network: Callable[[], nn.Module]
    words: str
    epochs: int
    most: int
    steps: int
    rate: float = 0.1
    flips: bool = False

    def images(self, seed: int) -> tuple[Split, Split]:
        """(train, test), standardised: a random choice of the training images, and the first of the test images."""
        arrays = datasets.load(self.data).arrays
        train, test = (_images(arrays[f"{part}_images"]) for part in ("train", "test"))
        labels, others = (torch.tensor(arrays[f"{part}_labels"]).long() for part in ("train", "test"))
        mean, deviation = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: self.most]
        x, tested = (train[chosen] - mean) / deviation, (test[:TESTED] - mean) / deviation
        return (x.to(DEVICE), labels[chosen].to(DEVICE)), (tested.to(DEVICE), others[:TESTED].to(DEVICE))

    def trained(self, train: Split, seed: int, without: int | None = None) -> tuple[nn.Module, float]:
        """A network trained on all images, or without a class, and the seconds of processor time that took."""
        x, y = train
        if without is not None:
            x, y = x[y != without], y[y != without]
        what = f"{len(train[1])}-" + ("all" if without is None else f"without-{without}")
        return kept(
            f"{self.data}-{what}-{seed}",
            self.network,
            lambda model: descend(model, (x, y), self.epochs, self.rate, seed, flips=self.flips),
            seed,
        )


WIDTHS = (64, 64) if FULL else (8, 4)
IMAGES = (1_000, 1_000) if QUICK else (50_000, 60_000) if FULL else (10_000, 60_000)
STEPS = (2, 4)
EPOCHS = (2, 2, 2) if QUICK else (100, 30, 50) if FULL else (15, 5, 8)
STUDIES = {
    "cifar10": Study(
        "cifar10",
        lambda: vgg11(WIDTHS[0]),
        f"CIFAR-10, VGG11 of {WIDTHS[0]} channels and up",
        EPOCHS[0],
        IMAGES[0],
        STEPS[0],
        flips=True,
    ),
    "mnist": Study(
        "mnist",
        lambda: resnet18(WIDTHS[1]),
        f"MNIST, ResNet18 of {WIDTHS[1]} channels and up",
        EPOCHS[1],
        IMAGES[1],
        STEPS[1],
    ),
    "fashion-mnist": Study(
        "fashion-mnist",
        lambda: resnet18(WIDTHS[1]),
        f"Fashion-MNIST (for SVHN), ResNet18 of {WIDTHS[1]} channels and up",
        EPOCHS[2],
        IMAGES[1],
        STEPS[1],
    ),
}


def _images(pixels) -> Tensor:
    x = torch.tensor(pixels).float() / 255
    return x.movedim(-1, 1).contiguous() if x.dim() == 4 else x[:, None]


def descend(
    model: nn.Module, data: Split, epochs: int, rate: float, seed: int, *, l2: float = L2, flips: bool = False
) -> None:
    """SGD with Nesterov's momentum, weight decay, a warm start of a tenth and then a cosine to 0."""
    x, y = data
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=MOMENTUM, weight_decay=l2, nesterov=True)
    generator = torch.Generator().manual_seed(seed)
    batches = max(len(x) // BATCH, 1)
    total, step = epochs * batches, 0
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(BATCH)[:batches]:
            warm = min(1.0, (step + 1) / (0.1 * total))
            optimiser.param_groups[0]["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / total))
            step += 1
            images = x[chosen]
            if flips:
                mirrored = torch.rand(len(images), generator=generator) < 0.5
                images = torch.where(mirrored.to(x.device)[:, None, None, None], images.flip(3), images)
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), y[chosen]).backward()
            optimiser.step()
    model.eval()


def kept(
    name: str, network: Callable[[], nn.Module], train: Callable[[nn.Module], None], seed: int
) -> tuple[nn.Module, float]:
    """A network trained once, and the seconds of processor time that took then."""
    path = MADE / f"{SCALE}-{name}.pt"
    torch.manual_seed(seed)
    model = network().to(DEVICE)
    if path.exists():
        found = torch.load(path, weights_only=True, map_location=DEVICE)
        model.load_state_dict(found["state"])
        return model.eval(), found["seconds"]
    begin = time.process_time()
    train(model)
    seconds = time.process_time() - begin
    states.write(path, {"state": model.state_dict(), "seconds": seconds})
    return model, seconds


def objective(model: nn.Module, train: Split, l2: float = L2, batch_size: int = BATCH // 2) -> uw.Objective:
    """What the network was trained for, as the library takes it."""
    return uw.Objective(model, uw.losses.CrossEntropy(), train, l2=l2, batch_size=batch_size, validate=False)


@torch.no_grad()
def accuracy(model: nn.Module, data: Split) -> float:
    """Share predicted right."""
    x, y = data
    hits = [(model(images).argmax(1) == labels).sum() for images, labels in zip(x.split(500), y.split(500))]  # noqa: B905
    return float(sum(hits)) / len(y)


def apart(data: Split, label: int = FORGOTTEN) -> tuple[Split, Split]:
    """(remaining, removed): the examples of other classes, and of this one."""
    x, y = data
    return (x[y != label], y[y != label]), (x[y == label], y[y == label])
