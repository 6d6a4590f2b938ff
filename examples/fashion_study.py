"""A study file: upweight label-errors examples/fashion_study.py

It trains a small convolutional network on 6,000 images of Fashion-MNIST, which are downloaded at first use.
"""

import numpy as np
import torch
from torch import nn

import upweight as uw
from upweight import datasets

L2, EPOCHS, BATCH = 1e-3, 20, 64


def study() -> uw.Study:
    """The trained objective; its ids are positions in the data set."""
    data = datasets.load("fashion-mnist")
    chosen = np.random.default_rng(0).choice(60_000, 6_000, replace=False)
    images = torch.tensor(data.train_images[chosen, None] / 255).float()
    labels = torch.tensor(data.train_labels[chosen]).long()
    test = torch.tensor(data.test_images[:500, None] / 255).float(), torch.tensor(data.test_labels[:500]).long()
    objective = uw.Objective(
        trained(images, labels), uw.losses.CrossEntropy(), (images, labels), l2=L2, ids=chosen.tolist()
    )
    return uw.Study(objective, test, class_names=data.classes, images=data.train_images[chosen])


def trained(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """SGD with momentum, weight decay and a rate that falls as a cosine."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)),
    )
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=L2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(labels) // BATCH))
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()
