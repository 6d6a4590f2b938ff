"""The paper's small CNN and its training: all convolutions, tanh everywhere, p = 2,616; Adam with two drops of the lr.

The setting is that of the authors' released code: 5,500 of the 55,000 training images, batches of 500, λ = .001 on
weights and not on biases; 500,000 steps at a learning rate of 1e-4, a tenth of it after 22 % of them and a hundredth
after 44 % (10,000 and 20,000 of 45,455 epochs), and so throughout the retraining, which goes on with Adam's averages.
A shorter training takes proportionately longer steps, so that rate × steps is the paper's.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from experiments import states
from experiments.koh_liang import mnist
from experiments.koh_liang.cnn_gradient import MADE, losses_and_gradients
from upweight.progress import track

IMAGES, BATCH, L2 = 5_500, 500, 0.001
STEPS, RATE, DROPS = 500_000, 1e-4, (0.22, 0.44)
BETAS, EPSILON = (0.9, 0.999), 1e-8
LAYERS = ((1, 8, 3, 1), (8, 8, 3, 2), (8, 8, 3, 1), (8, 8, 3, 2), (8, 8, 3, 1), (8, 10, 1, 1))
"""Channels in and out, size and stride of each convolution."""

Split = mnist.Split


def images(count: int = IMAGES, seed: int = 0) -> tuple[Split, Split]:
    """(train, test): a random choice of the training images as ``[n, 1, 28, 28]`` in float32, and all test images."""
    (x, y), (test_x, test_y) = mnist.ten_classes()
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:count]
    return (_as_images(x[chosen]), y[chosen]), (_as_images(test_x), test_y)


def _as_images(pixels: Float[Tensor, "n 784"]) -> Float[Tensor, "n 1 28 28"]:
    return pixels.float().reshape(-1, 1, 28, 28)


def network(seed: int = 0) -> nn.Sequential:
    """The untrained network: weights truncated normal of deviation 2/√fan-in (last layer 1/√fan-in), biases 0."""
    layers: list[nn.Module] = []
    for inputs, outputs, size, stride in LAYERS:
        layers += [nn.Conv2d(inputs, outputs, size, stride), nn.Tanh()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            if values.dim() == 1:
                values.zero_()
            else:
                deviation = (2 if values.dim() == 4 else 1) / values[0].numel() ** 0.5
                nn.init.trunc_normal_(values, 0, deviation, -2 * deviation, 2 * deviation, generator)
    return model


def flat(model: nn.Module) -> Float[Tensor, " p"]:
    """θ in float64."""
    return torch.cat([values.detach().double().flatten() for values in model.parameters()])


def penalty(model: nn.Module) -> Float[Tensor, " p"]:
    """λ of each entry of θ: none on biases."""
    return torch.cat(
        [torch.full((v.numel(),), L2 if v.dim() > 1 else 0.0, dtype=torch.float64) for v in model.parameters()]
    )


@dataclass(frozen=True)
class Adam:
    """k models in training together: θ, the averages of the gradient and of its square, and steps taken."""

    params: Float[Tensor, "k p"]
    mean: Float[Tensor, "k p"]
    square: Float[Tensor, "k p"]
    step: int = 0

    @classmethod
    def at(cls, params: Float[Tensor, "k p"]) -> Adam:
        """Before the first step."""
        return cls(params, torch.zeros_like(params), torch.zeros_like(params))

    def repeated(self, k: int) -> Adam:
        """k copies of one model."""
        return Adam(*(part.expand(k, -1).clone() for part in (self.params, self.mean, self.square)), self.step)

    def advanced(self, gradients: Float[Tensor, "k p"], rate: float) -> Adam:
        """One step of Kingma & Ba (2015), algorithm 1."""
        step = self.step + 1
        mean = BETAS[0] * self.mean + (1 - BETAS[0]) * gradients
        square = BETAS[1] * self.square + (1 - BETAS[1]) * gradients**2
        scale = (square / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
        return Adam(self.params - rate / (1 - BETAS[0] ** step) * mean / scale, mean, square, step)


def rate(step: int, steps: int) -> float:
    """Learning rate at a step (from 0) of a training of so many steps."""
    return RATE * STEPS / steps * 0.1 ** sum(step >= drop * steps for drop in DROPS)


def batch_of(step: int, n: int) -> Int[Tensor, " batch"]:
    """Positions of the examples of a step: every epoch another order, the same for all models and all runs."""
    epoch, place = divmod(step, n // BATCH)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch))
    return order[place * BATCH : (place + 1) * BATCH]


def advance(
    model: nn.Module, state: Adam, data: Split, l2: Float[Tensor, " p"], lr: float, removed: Tensor | None = None
) -> Adam:
    """One step of all models on the same batch; ``removed``: each one's left-out position (−1: none), ``[k]``.

    A left-out example counts 0; the weights of the others stay 1/500.
    """
    x, y = data
    index = batch_of(state.step, len(x))
    weights = torch.full((len(state.params), len(index)), 1 / len(index), dtype=torch.float64)
    if removed is not None:
        weights[removed[:, None] == index] = 0.0
    _, gradients = losses_and_gradients(model, state.params, x[index], y[index], weights)
    return state.advanced(gradients + l2 * state.params, lr)


def train(data: Split, steps: int, folder: Path, every: int) -> Adam:
    """Train one network from scratch; keeps θ of every so many steps in ``folder``, and goes on after a kill."""
    folder.mkdir(parents=True, exist_ok=True)
    model = network()
    state = read(folder / "state.pt") or Adam.at(flat(model)[None])
    l2 = penalty(model)
    for step in track(range(state.step, steps), f"training the CNN from step {state.step:,}"):
        state = advance(model, state, data, l2, rate(step, steps))
        if state.step % every == 0 or state.step == steps:
            write(folder / f"step-{state.step:07d}.pt", state)
            write(folder / "state.pt", state)
    return state


def write(path: Path, state: Adam) -> None:
    """Put a state on disk, whole or not at all."""
    states.write(path, asdict(state))


def read(path: Path) -> Adam | None:
    """The state of a file, if it is there."""
    return Adam(**torch.load(path, weights_only=True)) if path.exists() else None


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = int(os.environ.get("STEPS", STEPS))
    train(images()[0], chosen, MADE / f"fig2_right-{chosen}", chosen // 50)
