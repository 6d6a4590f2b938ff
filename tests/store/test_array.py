"""A shard's bytes are the same wherever it stands, hold little but numbers, and tell that they were altered."""

from __future__ import annotations

import numpy as np
import pytest

from upweight.store import Memory
from upweight.store.array import ScoreArray


@pytest.mark.parametrize("queries", [None, 1, 7, 10, 1000])
@pytest.mark.parametrize("width", [1, 100, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shards_make_the_array(queries: int | None, width: int, dtype: str) -> None:
    examples = 3 * width - width // 2
    array = ScoreArray("scores", queries, examples, width, dtype)
    shape = (examples,) if queries is None else (queries, examples)
    scores = np.random.default_rng(0).normal(size=shape).astype(dtype)
    memory = Memory()
    memory.write(*array.description())
    for number in range(array.shards):
        memory.write(array.key(number), array.encoded(scores[..., number * width : (number + 1) * width]))
    np.testing.assert_array_equal(np.asarray(array.opened(memory)[...]), scores)
    if width == 5000 and queries != 1:
        held = sum(len(content) for content in memory.content.values())
        assert held <= 1.1 * array.shards * width * (queries or 1) * np.dtype(dtype).itemsize


def test_an_altered_number_is_told() -> None:
    array = ScoreArray("scores", 4, 10, 10, "float32")
    content = array.encoded(np.ones((4, 10), dtype="float32"))
    for place in range(0, len(content), 7):
        memory = Memory()
        memory.write(*array.description())
        memory.write(array.key(0), content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(Exception, match=r"."):
            np.asarray(array.opened(memory)[...])
