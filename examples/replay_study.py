"""A study file with a declared training: upweight replay examples/replay_study.py --first 20

It trains a small network with smooth activations on the digits that come with scikit-learn, and asks about test images.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import upweight as uw
from upweight.study import Study


def data() -> list[torch.Tensor]:
    """Images and labels: to train on, and to ask about."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, train_size=500, test_size=100, stratify=labels, random_state=0)
    return [torch.as_tensor(part, dtype=torch.float32 if part.ndim == 2 else torch.long) for part in parts]


def build() -> torch.nn.Module:
    """The untrained network; a seed decides its first weights."""
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.GELU(), torch.nn.Linear(32, 10))


def replay() -> uw.Replay:
    """The training: what a loop with torch.optim would do."""
    train, _, labels, _ = data()
    return uw.Replay(
        build,
        uw.losses.CrossEntropy(),
        (train, labels),
        optimizer=uw.replay.SGD(0.05, momentum=0.9, weight_decay=1e-3),
        epochs=10,
        batch_size=50,
    )


def study() -> Study:
    """The trained network, and test images as queries."""
    _, test, _, labels = data()
    return Study(replay().objective(), (test, labels), class_names=[str(digit) for digit in range(10)])
