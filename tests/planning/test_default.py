"""The default inverse says what it chose."""

import upweight as uw
from problems import close, convex, mlp


def test_the_default_inverse_says_what_it_chose():
    linear = uw.Influence(convex("softmax").objective())
    assert "linear in θ" in linear.choice
    close(linear.attribute(convex("softmax").queries).damping, 0.0)
    network = uw.Influence(mlp().objective())
    assert "GGN" in network.choice
    assert "GGN" in network.attribute(mlp().queries).report.solver
