"""The same gradients, cut into the blocks of another plan."""

from __future__ import annotations

import torch

from problems import DOUBLE, close
from upweight.gradients.blocks import Block, Gradients, Shape, conformed
from upweight.gradients.terms import Outer
from upweight.parameters import Layout


def test_blocks_in_common_stay_and_the_others_are_cut_anew() -> None:
    layout = Layout(("a.weight", "a.bias", "b.weight"), (torch.Size((2, 3)), torch.Size((2,)), torch.Size((4, 2))))
    joint, other = Shape("a.weight", "a.bias", 2, 4), Shape("b.weight", None, 4, 2)
    terms = [
        Outer(torch.randn(5, 1, s.rows, dtype=DOUBLE), torch.randn(5, 1, s.columns, dtype=DOUBLE))
        for s in (joint, other)
    ]
    blocks = tuple(Block(shape, (term,)) for shape, term in zip((joint, other), terms, strict=True))
    given = Gradients(layout, blocks, 5)
    apart = [Shape("a.weight", None, 2, 3), Shape("a.bias", None, 2, 1), other]
    found = conformed(given, apart)
    assert found.shapes == tuple(apart)
    assert found.blocks[2] is blocks[1]
    close(found.materialize(), given.materialize())
    assert conformed(given, [joint, other]) is given
