"""Reading members out of package archives, one at a time and without unpacking to disk."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield ``(name, content)`` of the wanted files of a ``.tgz``, ``.whl`` or ``.deb``, in archive order."""
    match archive.suffix:
        case ".whl":
            with zipfile.ZipFile(archive) as bundle:
                for name in filter(wanted, bundle.namelist()):
                    yield name, bundle.read(name)
        case ".tgz":
            with archive.open("rb") as stream:
                yield from _tar_members(stream, "r|gz", wanted)
        case ".deb":
            # dpkg-deb knows the compressions that Debian uses; the names start with ./
            asked = ["dpkg-deb", "--fsys-tarfile", str(archive)]
            with subprocess.Popen(asked, stdout=subprocess.PIPE) as unpacking:
                assert unpacking.stdout is not None
                yield from _tar_members(unpacking.stdout, "r|", wanted)
        case other:
            raise ValueError(f"cannot read an archive that ends in {other!r}: {archive}")


def _tar_members(stream: IO[bytes], mode: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode=mode) as bundle:  # type: ignore[call-overload]
        for member in bundle:
            name = member.name.removeprefix("./")
            if member.isfile() and wanted(name):
                content = bundle.extractfile(member)
                assert content is not None
                yield name, content.read()
