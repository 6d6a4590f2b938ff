"""Shards cover every example once, and are of a size that neither a kill nor a disk minds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from upweight.jobs.shards import EACH, MOST, PASSING, TARGET, USUAL, cut, usual_width


@pytest.mark.parametrize("examples", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("width", [1, 3, 10**7])
def test_every_example_is_in_one_shard(examples: int, width: int) -> None:
    shards = cut(examples, width)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert (shards[0].start, shards[-1].stop) == (0, examples)
    assert all(first.stop == second.start for first, second in pairwise(shards))
    assert all(shard.stop - shard.start == min(width, examples) for shard in shards[:-1])


@pytest.mark.parametrize("examples", [1, 50, 10**4, 10**6, 10**8])
@pytest.mark.parametrize("rows", [1, 100, 10**5, 10**9])
@pytest.mark.parametrize("queries", [1, 1000, 10**5])
@pytest.mark.parametrize("workers", [1, 2, 100])
@pytest.mark.parametrize("dense", [True, False])
def test_a_width_is_within_its_bounds(examples: int, rows: int, queries: int, workers: int, *, dense: bool) -> None:
    width = usual_width(examples, 4 * queries, rows, workers, dense=dense)
    shards = cut(examples, width)
    assert 1 <= width <= examples
    assert len(shards) <= MOST
    if 4 * queries * examples <= MOST * TARGET:  # beyond, there would be too many
        assert 4 * queries * width <= max(TARGET if dense else PASSING, 4 * queries)
    if workers > 1:
        assert len(shards) >= min(workers, examples)
    if examples >= USUAL * max(rows, EACH * workers):
        assert len(shards) >= USUAL // 2


def test_a_long_job_of_few_queries_is_many_shards() -> None:
    assert len(cut(100_000, usual_width(100_000, 40, 32, 1, dense=True))) >= USUAL
