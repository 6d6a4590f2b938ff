"""Blocks are there whole, by their marker, or not at all; on every backend."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from upweight.errors import DamagedFileWarning, InputError
from upweight.files import NotWrittenError
from upweight.store.backend import Backend, Local, Memory, Remote, backend
from upweight.store.blocks import Blocks
from upweight.store.sealed import seal, unseal
from upweight.store.tensors import pack, unpack


@pytest.fixture(params=["local", "remote", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "local":
        return Local(tmp_path / "store")
    return Memory() if request.param == "memory" else Remote(f"memory://{tmp_path.name}")


def test_what_is_committed_is_read_back(place: Backend) -> None:
    blocks = Blocks(place)
    assert blocks.marks() == {}
    mark = blocks.commit("scores-000", b"abc", facts={"examples": [0, 3]})
    blocks.commit("other", b"", key="a/c/0/1")
    assert list(blocks.marks()) == ["other", "scores-000"]
    assert blocks.marks("scores") == {"scores-000": mark}
    assert blocks.content("scores-000") == b"abc"
    assert blocks.content("other") == b""
    assert place.read("a/c/0/1") == b""
    assert place.size("blocks/scores-000") == 3
    assert place.keys("a/c/") == []
    blocks.commit("scores-000", b"abcd")
    assert blocks.content("scores-000") == b"abcd"
    blocks.remove("scores-000")
    assert blocks.mark("scores-000") is None
    assert place.read("blocks/scores-000") is None
    with pytest.raises(InputError, match="no block scores-000"):
        blocks.content("scores-000")


@pytest.mark.parametrize("content", [None, b"ab", b"abx"])
def test_a_damaged_block_is_named_and_left_out(place: Backend, content: bytes | None) -> None:
    blocks = Blocks(place)
    blocks.commit("one", b"abc")
    blocks.commit("two", b"abc")
    place.delete("blocks/one")
    if content is not None:
        place.write("blocks/one", content)
    assert list(blocks.marks()) == ["one", "two"]  # nothing is read
    with pytest.raises(InputError, match="block one"):
        blocks.content("one")
    with pytest.warns(DamagedFileWarning, match="block one"):
        assert list(blocks.whole()) == ["two"]
    assert blocks.fault("one") is not None
    assert blocks.fault("two") is None


def test_a_marker_that_was_altered_marks_nothing(place: Backend) -> None:
    blocks = Blocks(place)
    blocks.commit("one", b"abc")
    content = place.read("committed/one.json")
    assert content is not None
    said = unseal(content)
    assert said is not None
    for bad in (content[:-1], content.replace(b"3", b"4"), b"", seal({**said, "key": "../../one"}), seal({})):
        place.write("committed/one.json", bad)
        with pytest.warns(DamagedFileWarning, match="marker of block one"):
            assert blocks.marks() == {}


def test_a_log_grows(place: Backend) -> None:
    place.write("log", b"")
    place.append("log", b"one\n")
    place.append("log", b"two\n")
    assert place.read("log") == b"one\ntwo\n"


def test_every_array_is_read_through_zarr(place: Backend) -> None:
    import zarr

    memory = zarr.storage.MemoryStore()
    made = zarr.create_array(memory, name="scores", shape=(4, 6), chunks=(4, 3), dtype="f4")
    made[:] = torch.arange(24.0).reshape(4, 6).numpy()
    for key, value in memory._store_dict.items():
        place.write(key, value.to_bytes())
    found = zarr.open_array(place.arrays(), path="scores", mode="r")
    assert found[2, 4] == 16


def test_one_process_at_a_time_works_on_a_folder(tmp_path: Path) -> None:
    place = Local(tmp_path / "store")
    with place.held(), pytest.raises(InputError, match="another process"), place.held():
        pass
    with place.held():
        pass


def test_what_an_argument_means(tmp_path: Path) -> None:
    assert backend(tmp_path) == Local(tmp_path)
    assert backend(str(tmp_path)) == Local(tmp_path)
    assert isinstance(backend("memory://here"), Remote)
    memory = Memory()
    assert backend(memory) is memory
    with pytest.raises(InputError, match="nowhere"):
        backend("nowhere://here")
    for wrong in (3, None, object(), Memory):
        with pytest.raises(InputError, match="store"):
            backend(wrong)
    with pytest.raises(InputError, match="belongs to one process"):
        pickle.dumps(memory)
    for place in (Local(tmp_path), Remote("memory://here")):
        assert pickle.loads(pickle.dumps(place)) == place


def test_tensors_come_back_as_they_were() -> None:
    tensors = {"a": torch.randn(3, 2), "b": torch.arange(3), "c": torch.randn(2).bfloat16(), "d": torch.randn(4, 3).T}
    found, facts = unpack(pack(tensors, {"k": [1, "x", None]}))
    assert facts == {"k": [1, "x", None]}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())
    for bad in (b"", b"abc", pack(tensors)[:-1], b"\x80\x04N."):
        with pytest.raises(InputError, match="holds no tensors"):
            unpack(bad)


def test_a_folder_is_held_by_one_at_a_time_where_there_are_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Local(tmp_path / "store")
    with place.held(), pytest.raises(InputError, match=rf"another process \({os.getpid()} on "), place.held():
        pass
    monkeypatch.setattr("upweight.store.backend.fcntl", None)
    for name in ("uname", "pread", "pwrite"):  # as on Windows
        monkeypatch.delattr(os, name)
    with place.held(), place.held():
        place.write("a", b"b")


def test_bytes_stay_under_their_marker_while_others_are_written_beside_them(tmp_path: Path) -> None:
    class Full(Local):
        def write(self, key: str, content: bytes) -> None:
            if key.startswith("committed/"):
                raise NotWrittenError("no space")
            super().write(key, content)

    Blocks(Local(tmp_path)).commit("sum", b"first", key="blocks/sum-1")
    with pytest.raises(NotWrittenError):
        Blocks(Full(tmp_path)).commit("sum", b"second", key="blocks/sum-2")
    assert Blocks(Local(tmp_path)).content("sum") == b"first"
    assert Blocks(Local(tmp_path)).names("s") == ["sum"]
