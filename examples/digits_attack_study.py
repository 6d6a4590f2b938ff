"""A study of a frozen network with a trained top: upweight attack examples/digits_attack_study.py --count 5

The network is one random convolution with cosines (random features, Rahimi & Recht 2007), the top a logistic regression
that tells 4 from 9 among the digits that come with scikit-learn. The images are enlarged to 32 × 32 and stored as
bytes: these bytes are what an attack must leave as they are.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import upweight as uw
from upweight import retraining
from upweight.study import Study

PAIR, TRAIN = (4, 9), 60
FEATURES, PATCH = 256, 7
FREQUENCY = 10 / 127.5 / PATCH  # of the cosines, per level


class Features(nn.Module):
    """From levels 0 … 255, [n, 1, 32, 32], to means of cos(w·patch + b)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, FEATURES, PATCH, stride=3)
        nn.init.normal_(self.convolution.weight, std=FREQUENCY)
        nn.init.uniform_(self.convolution.bias, 0, 2 * torch.pi)

    def forward(self, levels: Tensor) -> Tensor:
        """Features of size about 1."""
        return 4 * torch.cos(self.convolution(levels - 127.5)).mean((2, 3))


def stored_digits() -> tuple[Tensor, Tensor]:
    """The pair's digits as bytes at 32 × 32, and labels 0 and 1."""
    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) * (255 / 16)
    large = nn.functional.interpolate(small, size=(32, 32), mode="bicubic").round().clamp(0, 255)
    digits = torch.tensor(labels)
    pair = torch.isin(digits, torch.tensor(PAIR))
    return large[pair].to(torch.uint8), (digits[pair] == PAIR[1]).long()


def study() -> Study:
    """A logistic top on the frozen features, with the images and the network that an attack goes through."""
    network = Features().eval()
    images, labels = stored_digits()
    with torch.no_grad():
        features = network(images.float()).double()
    top = nn.Linear(FEATURES, 1, dtype=torch.float64)
    nn.init.zeros_(top.weight)
    objective = uw.Objective(top, uw.losses.BinaryLogistic(), (features[:TRAIN], labels[:TRAIN]), l2=0.001)
    return Study(
        retraining.fit(objective),
        (features[TRAIN:], labels[TRAIN:]),
        class_names=[str(digit) for digit in PAIR],
        images=images[:TRAIN],
        query_images=images[TRAIN:],
        network=network,
    )
