"""Members come out of every kind of archive under the same names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from upweight.datasets.archives import members


def wanted(name: str) -> bool:
    return name.startswith("usr/share/")


FILES = {"usr/share/a.txt": b"a", "usr/share/b/c.txt": b"c" * 100_000, "other": b"o"}
EXPECTED = {"usr/share/a.txt": b"a", "usr/share/b/c.txt": b"c" * 100_000}


def test_tgz(make_tgz):
    assert dict(members(make_tgz(FILES), wanted)) == EXPECTED


def test_wheel(make_wheel):
    assert dict(members(make_wheel(FILES), wanted)) == EXPECTED


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_deb(tmp_path):
    root = tmp_path / "root"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "DEBIAN").mkdir()
    control = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: t\n"
    (root / "DEBIAN" / "control").write_text(control)
    deb = tmp_path / "tiny.deb"
    subprocess.run(["dpkg-deb", "--build", root, deb], check=True, capture_output=True)
    assert dict(members(deb, wanted)) == EXPECTED


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.rar"):
        next(members(Path("x.rar"), wanted))
