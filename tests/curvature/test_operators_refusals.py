"""A matrix given as such is one: real, finite, with a number in each place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import upweight as uw
from upweight.inverse import Dense

EYE = torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (torch.eye(3, device="meta"), r"matrix: .*meta device"),
        (EYE.to_sparse(), r"matrix: .*sparse"),
        (EYE + 0j, r"matrix: give torch.float64 or torch.float32; got torch.complex128"),
        (EYE.long(), r"matrix: give torch.float64 or torch.float32; got torch.int64"),
        (EYE / torch.tensor([1.0, 0.0, 1.0]), r"matrix: 3 entries are NaN or infinite"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(matrix: Tensor, words: str, unchecked: None) -> None:
    with pytest.raises(uw.InputError, match=words):
        uw.curvature.Matrix(matrix)


@pytest.mark.parametrize("vectors", [torch.ones(1, 3, device="meta"), torch.ones(1, 3).double().to_sparse()])
def test_vectors_without_numbers_are_refused(vectors: Tensor, unchecked: None) -> None:
    with pytest.raises(uw.InputError, match=r"vectors: "):
        Dense(damping=0.1).fit(uw.curvature.Matrix(EYE)).solve(vectors)
