"""The registry is consistent, and unknown names are met with the nearest known one."""

from __future__ import annotations

import dataclasses
import re

import pytest

from upweight import datasets


@pytest.mark.parametrize("name", datasets.names())
def test_every_archive_is_pinned_by_version_and_full_checksum(name):
    info = datasets.info(name)
    assert info.licence
    assert info.description
    assert info.holds
    for archive in info.archives:
        assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256)
        assert archive.version
        assert archive.bytes > 0


def test_cache_keys_are_distinct_and_change_with_checksum_and_format():
    assert len({datasets.info(name).key for name in datasets.names()}) == len(datasets.names())
    info = datasets.info("mnist")
    changed = dataclasses.replace(info.archives[0], sha256="0" * 64)
    assert dataclasses.replace(info, archives=(changed,)).key != info.key
    assert dataclasses.replace(info, format=info.format + 1).key != info.key


@pytest.mark.parametrize(
    ("asked", "meant"), [("mnits", "mnist"), ("Fashion_MNIST", "fashion-mnist"), ("cifar-10", "cifar10")]
)
def test_an_unknown_name_suggests_the_nearest(asked, meant):
    with pytest.raises(datasets.UnknownDataset, match=f"did you mean '{meant}'"):
        datasets.load(asked)


def test_a_name_like_no_other_lists_them_all():
    with pytest.raises(datasets.UnknownDataset, match="Known: digits, mnist"):
        datasets.info("qqqqqqqqqq")
