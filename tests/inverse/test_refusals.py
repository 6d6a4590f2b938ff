"""Settings, vectors and sizes that no inverse takes are refused by name."""

import pytest
import torch
from torch import nn

import upweight as uw
from solvers import spd
from upweight.curvature import Matrix
from upweight.errors import InputError
from upweight.inverse import CG, LSMR, Dense, LiSSA


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (CG, "max_iterations", 0),
        (LSMR, "max_iterations", 0),
        (CG, "tolerance", 0.0),
        (CG, "tolerance", 2.0),
        (LiSSA, "repeats", 0),
        (LiSSA, "depth", 0),
        (LiSSA, "batch_size", 0),
        (LiSSA, "scale", -1.0),
        (Dense, "method", "lu"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind, name, value):
    with pytest.raises(InputError, match=f"^{name}: "):
        kind(**{name: value}).fit(Matrix(spd()))


def test_a_matrix_too_large_to_factorise_is_refused_before_it_is_built():
    model = nn.Linear(20_001, 1, bias=False)
    objective = uw.Objective(model, uw.losses.SquaredError(), (torch.zeros(1, 20_001), torch.zeros(1)))
    with pytest.raises(InputError, match=r"p=20,001 needs \d+ GiB.*inverse.CG"):
        Dense().fit(objective)
