"""Whatever an attack changes, the images are stored as the bytes that they were."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upweight.tasks.attacks.box import Box, same_bytes, stored_images


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_the_change_the_bytes_are_those_stored(data: st.DataObject) -> None:
    levels = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=30))
    stored = torch.tensor(levels, dtype=torch.uint8)
    moves = st.floats(-1e4, 1e4, width=32)
    change = torch.tensor(data.draw(st.lists(moves, min_size=len(levels), max_size=len(levels))))
    box = Box(data.draw(st.floats(0.001, 0.4999)))
    for values in (change, change.double()):
        kept = box.project(stored, values)
        assert same_bytes(stored, kept)
        assert float(kept.abs().max()) <= box.radius + 1e-6
        again = box.project(stored, kept)
        assert torch.equal(kept, again)


def test_bytes_that_differ_are_noticed() -> None:
    stored = torch.tensor([0, 7, 255], dtype=torch.uint8)
    assert not same_bytes(stored, torch.tensor([0.0, 0.51, 0.0]))
    assert not same_bytes(stored, torch.tensor([-0.6, 0.0, 0.0]))
    assert not same_bytes(stored, torch.tensor([0.0, 0.0, 0.6]))


def test_stored_images_are_read_from_whole_numbers_of_any_type() -> None:
    levels = np.arange(48, dtype=np.int64).reshape(3, 4, 4)
    assert torch.equal(stored_images(levels, 3), torch.as_tensor(levels).to(torch.uint8))
    assert stored_images(levels.astype(np.float32), 3).dtype == torch.uint8
