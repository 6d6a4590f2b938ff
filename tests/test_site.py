"""The documentation site builds without a warning, and every page has its place in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
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


@pytest.mark.parametrize(
    ("link", "right"),
    [
        ("[a page](other.md)", True),
        ("[its part](other.md#part)", True),
        ("[source](../src/upweight/kinds.py)", True),
        ("[nothing](nowhere.md)", False),
        ("[no part](other.md#nowhere)", False),
        ("[nothing](../benchmarks/nowhere/RESULTS.md)", False),
    ],
)
def test_the_build_refuses_a_link_that_leads_nowhere(link: str, right: bool, tmp_path: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("theme:")[0]
    made = "hooks: [pages.py]\nplugins: []\nnav:\n  - Start: start.md\n  - Other: other.md\n"
    (tmp_path / "mkdocs.yml").write_text(settings + made, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "start.md").write_text(f"# Start\n\n{link}\n", encoding="utf-8")
    (tmp_path / "docs" / "other.md").write_text("# Other\n\n## Part\n", encoding="utf-8")
    (tmp_path / "src" / "upweight").mkdir(parents=True)
    (tmp_path / "src" / "upweight" / "kinds.py").touch()
    hook = [
        "from pathlib import Path",
        "import sys",
        f"sys.path.insert(0, {str(ROOT / 'docs' / 'site')!r})",
        "import pages",
    ]
    hook += [
        "pages.ROOT = Path(__file__).parent",
        "pages.moved = lambda: {f'docs/{n}.md': f'{n}.md' for n in ('start', 'other')}",
    ]
    (tmp_path / "pages.py").write_text("\n".join([*hook, "on_page_markdown = pages.on_page_markdown\n"]))
    words = [sys.executable, "-m", "mkdocs", "build"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode == 0) is right, done.stdout + done.stderr


def test_of_every_finding_it_is_said_what_is_done_about_it(site: Path) -> None:
    done = tomllib.loads((ROOT / "docs/site/findings.toml").read_text(encoding="utf-8"))
    assert set(done) == {file.stem for file in (ROOT / "findings").glob("*.sh")}
    page = (site / "project" / "findings" / "index.html").read_text(encoding="utf-8")
    assert page.count("What upweight does: ") == len(done)


def test_the_reference_names_what_the_package_exports(site: Path) -> None:
    words = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in ("Influence", "Objective", "TRAK", "read_scores"):
        assert f'id="upweight.{name}"' in words
    assert 'id="upweight.inverse.EKFAC"' in (site / "reference" / "upweight-inverse" / "index.html").read_text("utf-8")
