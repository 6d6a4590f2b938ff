"""The first format, without checksums, is read where all of it is there, and replaced by the second."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import zarr

from problems import close
from saved import QUANTITY, SCORES, names
from upweight.attribution import Attribution
from upweight.errors import InputError, UpweightWarning


def first_format(path: Path, chunks: tuple[int, int] = (2, 2), **changes: Any) -> None:
    group = zarr.open_group(path, mode="w")
    group.create_array("scores", data=SCORES.numpy(), chunks=chunks)
    group.attrs["upweight"] = {
        "format": 1,
        "quantity": asdict(QUANTITY),
        "ids": ["a", "b", "c", "d"],
        "query_ids": [10, 20],
        "damping": 0.1,
        "report": "",
        "facts": {"n": 4.0},
        **changes,
    }


def test_the_first_format_is_read_if_all_of_it_is_there_and_replaced_by_the_second(tmp_path: Path) -> None:
    path = tmp_path / "result"
    first_format(path)
    with pytest.warns(UpweightWarning, match="saved without checksums"):
        result = Attribution.load(path)
    close(result.scores, SCORES)
    assert result.ids.tolist() == ["a", "b", "c", "d"]
    result.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(Attribution.load(path).scores, SCORES)
    assert not (path / "zarr.json").exists()
    assert len(names(path)) == 2


def test_the_first_format_is_refused_where_a_chunk_is_missing_or_an_entry_wrong(tmp_path: Path) -> None:
    path = tmp_path / "result"
    first_format(path)
    (path / "scores" / "c" / "0" / "1").unlink()
    with pytest.raises(InputError, match="has 1 of its 2 chunks"):
        Attribution.load(path)
    first_format(path)
    chunk = path / "scores" / "c" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.warns(UpweightWarning), pytest.raises(InputError, match="its scores can't be read"):
        Attribution.load(path)
    first_format(path, damping="x")
    with pytest.warns(UpweightWarning), pytest.raises(InputError, match="damping can't be 'x'"):
        Attribution.load(path)
    first_format(path, format=99)
    with pytest.raises(InputError, match="has format 99; this version reads 1 and 2"):
        Attribution.load(path)
