"""A small problem, and its data with a value that is none."""

from torch.utils.data import Dataset

import upweight as uw
from problems import convex


def softmax():
    return convex("softmax")


def spoiled(value, position=7):
    x = softmax().x.clone()
    x[position, 1] = value
    return x


class Examples(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


CE = uw.losses.CrossEntropy()


def influence(**options):
    return uw.Influence(softmax().objective(**options), uw.inverse.Dense())
