"""What can't be asked of generalised influence is refused with the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import upweight as uw
from generalized import objective
from upweight.errors import InputError
from upweight.inverse import Neumann


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (uw.Removal([]), {}, r"indices: give at least one .* got \[\]"),
        (uw.Removal(range(30)), {}, "indices: they are all 30 training examples"),
        (uw.Removal([0]), {"method": "HIF"}, "method: one of 'GIF', 'FIF', 'PIF', 'IF', 'SIF'; got 'HIF'"),
        (uw.Removal([0]), {"method": "IF", "parameters": ["0.*"]}, "method: IF answers with all"),
        (uw.Removal([0]), {"parameters": ["3.*"]}, "parameters: '3.\\*' matches none"),
        (uw.Removal([0]), {"parameters": torch.zeros(5, dtype=torch.bool)}, "a mask is .* booleans"),
        (uw.Removal([0]), {"damping": -1.0}, "damping: give a finite number ≥ 0; got -1.0"),
        (uw.Removal([0]), {"examples": 0}, "examples: give a whole number from 1 to 29; got 0"),
        (uw.Removal([0]), {"solver": Neumann(), "method": "FIF"}, "solver: the Neumann series is GIF's"),
        (uw.Removal([0]), {"curvature": "ggn"}, "curvature: .*got 'ggn'"),
        (uw.Relabelling([0, 1], [1]), {}, "targets: need one for each of the 2 indices; got 1"),
        (uw.Relabelling([0], [7]), {}, "targets range from 7 to 7"),
        (uw.Relabelling([0], [1]), {"renormalize": True}, "renormalize: belongs to a removal"),
        ([0, 1], {}, "change: give Removal, Relabelling or Substitution; got list"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_mend(change: Any, options: dict[str, Any], message: str) -> None:
    influence = uw.Influence(objective())
    with pytest.raises(InputError, match=message):
        influence.generalized(change, options.pop("parameters", None), **options)
