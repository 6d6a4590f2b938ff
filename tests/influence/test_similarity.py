"""Baselines without curvature."""

import torch

from problems import close
from upweight.influence import similarity


def test_gradient_dot_is_the_product_of_gradients(trained):
    expected = trained.query_gradients() @ trained.gradients().T
    close(similarity.gradient_dot(trained.objective(), trained.queries).scores, expected)


def test_gradient_cosine_is_the_cosine_of_gradients(trained):
    expected = torch.nn.functional.cosine_similarity(
        trained.query_gradients()[:, None], trained.gradients()[None], dim=2
    )
    scores = similarity.gradient_cosine(trained.objective(batch_size=4), trained.queries).scores
    close(scores, expected, rtol=1e-7)
    assert scores.abs().max() <= 1 + 1e-12


def test_euclidean_distance_is_negative_so_that_near_is_high(trained):
    expected = -(trained.query_x[:, None] - trained.x[None]).norm(dim=2)
    close(similarity.euclidean_distance(trained.objective(), trained.queries).scores, expected, rtol=1e-5)
