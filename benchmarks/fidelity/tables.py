"""What the parts of the report share: tables on the page and on the terminal, and the machine in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.fidelity.record import Found


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *escaped))


def grid(
    title: str, head: Sequence[str], lines: Iterable[Sequence[str]], console: Console, *, right: bool = True
) -> None:
    """On the terminal; the columns after the first to the right, if they are figures."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1) if right else (0, 1))
    for number, name in enumerate(head):
        figures = right and number > 0
        drawn.add_column(name, justify="right" if figures else "left", max_width=40 if right and not number else None)
    for line in lines:
        drawn.add_row(*line)
    console.print(drawn)


def machines(found: Found, tasks: Iterable[str]) -> str:
    """The machine on which the tasks were measured; where they were on several, which on which."""
    by_words: dict[str, list[str]] = {}
    for task in tasks:
        one = found["tasks"][task]["machine"]
        plural = "s" * (one["threads"] > 1)
        words = f"{one['processor']}, {one['cores']} cores, {one['threads']} thread{plural} for each"
        words += f"; Python {one['python']}"
        words += f", torch {one['torch']}" if "torch" in one else ""
        by_words.setdefault(words, []).append(task)
    if len(by_words) == 1:
        return next(iter(by_words))
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in by_words.items())
