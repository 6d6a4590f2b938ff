"""The documentation site builds without a warning, and every page has its place in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_of_docs_is_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    listed = set(re.findall(r'href="([a-z-]+)/"', start))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= listed


def test_no_link_leads_nowhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8")):
            if "//" not in link and not link.startswith(("/", "data:", "mailto:")):
                target = page.parent / link
                assert target.exists(), f"{page.relative_to(site)}: {link}"


def test_the_reference_names_what_the_package_exports(site: Path) -> None:
    words = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in ("Influence", "Objective", "TRAK", "read_scores"):
        assert f'id="upweight.{name}"' in words
    assert 'id="upweight.inverse.EKFAC"' in (site / "reference" / "upweight-inverse" / "index.html").read_text("utf-8")
