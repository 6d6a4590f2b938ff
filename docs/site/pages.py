"""Pages of the site that stand elsewhere in the repository: README, results, examples, findings; and the reference.

A hook of MkDocs. A relative link keeps its meaning in the repository (so that it works where the source is read), and
is sent to the page, or the picture, that the file has become here.
"""

from __future__ import annotations

import ast
import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)]*)?(\))")
REFERENCE, EXAMPLES, FINDINGS = "reference", "examples", "project/findings.md"
DIRECTIVE = "::: "
DONE = Path(__file__).with_name("findings.toml")
MET = """Surprises in real libraries and tools that are no fault of ours. Each is a script of `findings/` that installs
pinned packages in a folder of its own, shows the behaviour, and fails once it has changed."""


def moved() -> dict[str, str]:
    """Where files of the repository stand on the site."""
    found = {
        "README.md": "index.md",
        "CHANGELOG.md": "project/changelog.md",
        "CONTRIBUTING.md": "project/contributing.md",
        "SECURITY.md": "project/security.md",
        "experiments/RESULTS.md": "results/experiments.md",
    }
    results = sorted((ROOT / "benchmarks").glob("*/RESULTS.md"))
    found |= {f"benchmarks/{page.parent.name}/RESULTS.md": f"results/of-{page.parent.name}.md" for page in results}
    found |= {f"examples/{file.name}": f"{EXAMPLES}/{file.stem}.md" for file in examples()}
    pages = sorted(ROOT.glob("docs/*.md"))
    return found | {f"docs/{page.name}": page.name for page in pages}


def examples() -> list[Path]:
    """The scripts that users can run."""
    return sorted((ROOT / "examples").glob("*.py"))


def on_config(config: Any) -> Any:
    """The parts of the navigation that are made of what is there."""
    reference = [{"upweight": f"{REFERENCE}/index.md"}]
    reference += [{f"upweight.{room}": f"{REFERENCE}/upweight-{room}.md"} for room in rooms()]
    shown = [{title(file): f"{EXAMPLES}/{file.stem}.md"} for file in examples()]
    made = {"REFERENCE": reference, "EXAMPLES": shown}
    for entry in config.nav:
        for name, inside in entry.items():
            entry[name] = made.get(inside, inside) if isinstance(inside, str) else inside
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and the pictures that they show."""
    places = moved()
    for source, place in places.items():
        if source.startswith("docs/"):
            continue
        words = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=of_example(source, words)))
        for _, target, *_ in LINK.findall(words):
            picture = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
            at = picture.removeprefix("docs/")
            if picture.endswith(".png") and files.get_file_from_path(at) is None:
                files.append(File.generated(config, at, content=(ROOT / picture).read_bytes()))
    for name in ("upweight", *(f"upweight.{room}" for room in rooms())):
        place = "index" if name == "upweight" else name.replace(".", "-")
        files.append(File.generated(config, f"{REFERENCE}/{place}.md", content=reference_of(name, exported(name))))
    files.append(File.generated(config, FINDINGS, content=findings()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Send relative links to where their files stand on the site."""
    places = moved()
    origins = {place: source for source, place in places.items()}
    here = page.file.src_uri
    source = origins.get(here)
    if source is None:
        return markdown

    def sent(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = places.get(meant, meant.removeprefix("docs/"))
        if files.get_file_from_path(place) is None:
            if not (ROOT / meant).exists():
                return match[0]  # which the strict build then refuses
            return before.removeprefix("[").removesuffix("](")  # source code, a licence: named, and no page of the site
        return f"{before}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor or ''}{after}"

    return LINK.sub(sent, markdown)


def of_example(source: str, words: str) -> str:
    """A script as a page; other files as they are."""
    if not source.endswith(".py"):
        return words
    return f"# {title(ROOT / source)}\n\n`{source}`\n\n```py\n{words}```\n"


def title(file: Path) -> str:
    """A script's first line of words."""
    words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or file.stem
    return re.split(r"[:.,]", words)[0]


def rooms() -> list[str]:
    """Public rooms of the package: modules that the package itself exports."""
    package = ast.parse((ROOT / "src/upweight/__init__.py").read_text(encoding="utf-8"))
    listed = names_in(package)
    source = ROOT / "src/upweight"
    return [name for name in listed if (source / name).is_dir() or (source / f"{name}.py").is_file()]


def exported(module: str) -> list[str]:
    """Names of the module's ``__all__``, in its order; of a module without one, what it defines."""
    place = ROOT / "src" / Path(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    listed = names_in(tree) or [
        each.name
        for each in tree.body
        if isinstance(each, ast.ClassDef | ast.FunctionDef) and not each.name.startswith("_")
    ]
    return [name for name in listed if not name.startswith("__") and not (module == "upweight" and name in rooms())]


def names_in(tree: ast.Module) -> list[str]:
    """What ``__all__`` lists."""
    for each in tree.body:
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == "__all__":
            found: list[str] = ast.literal_eval(each.value)
            return found
    return []


def reference_of(module: str, names: list[str]) -> str:
    """A page of the reference: the room's own words, then every public name."""
    lines = [f"# {module}", "", f"{DIRECTIVE}{module}", "    options:", "      members: false"]
    lines += ["      show_root_heading: false", ""]
    for name in names:
        lines += [f"{DIRECTIVE}{module}.{name}", "    options:", "      heading_level: 2", ""]
    return "\n".join(lines)


def findings() -> str:
    """What was met in other software: what each script says of itself."""
    done = tomllib.loads(DONE.read_text(encoding="utf-8"))
    lines = ["# Findings about other software", "", MET, ""]
    for file in sorted((ROOT / "findings").glob("*.sh")):
        head, *rest = paragraphs(file)
        lines += [f"## {file.stem.replace('-', ' ')}", "", head, ""]
        lines += [f"`{line}`  " if line.startswith(("Versions", "Seen")) else line for line in rest]
        lines += ["", f"What upweight does: {done[file.stem]}", "", f"`findings/{file.name}`", ""]
    return "\n".join(lines)


def paragraphs(file: Path) -> Iterator[str]:
    """The comment at the head of a script: its paragraphs, and what stands under `Versions` and `Seen` apart."""
    held: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        if not line.startswith("#"):
            break
        words = line.removeprefix("#").strip()
        if not words or words.startswith(("Versions", "Seen")):
            if held:
                yield " ".join(held)
            held = []
        if words:
            held.append(words)
    if held:
        yield " ".join(held)
