"""An ensemble is the mean of its members."""

import torch

import upweight as uw
from problems import close, convex


def test_self_influence_is_the_mean_of_the_members() -> None:
    objective = convex("softmax").objective()
    models = [objective.params, 1.1 * objective.params]
    ensemble = uw.Ensemble(objective, models, uw.inverse.Dense(damping=0.1))
    members = [each.self_influence(train=[1, 4]).scores for each in ensemble.influences()]
    found = ensemble.self_influence(train=[1, 4])
    close(found.scores, torch.stack(members).mean(0))
    assert found.facts["models"] == 2
