"""The digits of digits_study.py by another model, which `upweight compare` puts beside the first.

A softmax regression on random cosine features (Rahimi & Recht 2007), so that what helps is near by another measure than
distance in pixels.
"""

import torch
from digits_study import study as of_pixels

import upweight as uw
from upweight.study import Study

FEATURES, WIDTH = 512, 2.0


def study() -> Study:
    """The same examples, queries and pictures; the features are the model's inputs."""
    plain = of_pixels()
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(64, FEATURES, generator=generator, dtype=torch.float64) / WIDTH
    shifts = 2 * torch.pi * torch.rand(FEATURES, generator=generator, dtype=torch.float64)

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return torch.cos(torch.as_tensor(pixels) @ directions + shifts) * (2 / FEATURES) ** 0.5

    pixels, labels = plain.objective.data.take(range(plain.objective.n))
    queries, query_labels = plain.queries
    model = torch.nn.Linear(FEATURES, 10, dtype=torch.float64)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (features(pixels), labels), l2=0.001)
    return Study(
        uw.retraining.fit(objective),
        (features(queries), query_labels),
        images=plain.images,
        query_images=plain.query_images,
    )
