"""What `upweight unlearn` and `upweight correct-labels` are asked: their options, checked before the study is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from upweight.cli.study_file import refuse_other

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli.source import Source

RULES = (
    "highest-output",
    "lowest-output",
    "highest-gradient",
    "lowest-gradient",
    "highest-fisher",
    "lowest-fisher",
    "random",
)
StudyFile = Annotated[
    Path,
    typer.Argument(help="A Python study file (see examples/digits_study.py); its queries judge.", show_default=False),
]
Classes = Annotated[list[str], typer.Option("--class", "-c", help="A class to forget; may be repeated.")]
Ratios = Annotated[
    list[float] | None,
    typer.Option(
        "--ratio",
        help="Share of the units that may move; 1: every parameter. Repeated: each is tried, and the one kept that "
        "held-out training examples speak for.",
        show_default="0.05",
    ),
]
Choose = Annotated[str, typer.Option(help=f"Which units: {', '.join(RULES)}.")]
MethodOption = Annotated[str, typer.Option("--method", help="GIF, FIF, PIF, IF or SIF.")]
Steps = Annotated[int, typer.Option(min=1, help="Rounds, each re-linearised.")]
Search = Annotated[
    bool, typer.Option("--search/--no-search", help="Judge each step's length on held-out training examples.")
]
Damping = Annotated[float, typer.Option(min=0, help="δ of the curvature.")]
Examples = Annotated[int | None, typer.Option(min=1, help="Training examples that the curvature is estimated from.")]
Sample = Annotated[
    int | None,
    typer.Option(min=1, help="Changed examples, and as many others, that stand for all in each step (default: all)."),
]
Per = Annotated[str, typer.Option(help="Units are ranked within each layer, or over all: layer or global.")]
Labels = Annotated[
    Path,
    typer.Option("--labels", "-l", help="A CSV with columns position and label: the new labels of training examples."),
]


def settings(
    method: str, steps: int, search: bool, damping: float, examples: int | None, sample: int | None, seed: int
) -> dict[str, Any]:
    """The settings of `tasks.unlearn` that the options give."""
    from upweight.tasks import Equations, Rounds

    return {
        "method": method,
        "rounds": Rounds(steps=steps, search=search, sample=sample),
        # A tolerance far below what linearising costs.
        "equations": Equations(damping=damping, examples=examples, tolerance=1e-4, max_iterations=300),
        "seed": seed,
    }


def class_number(opened: Source, name: str, option: str = "--class") -> int:
    """The number of a class that was named in an option."""
    from upweight.errors import InputError

    if opened.class_names is not None and name in opened.class_names:
        return opened.class_names.index(name)
    if opened.class_names is None and name.isdigit():
        return int(name)
    known = "class numbers" if opened.class_names is None else ", ".join(opened.class_names)
    raise InputError(f"{option}: {name!r} is none of this study's, {known}")


def new_labels(path: Path) -> pd.DataFrame:
    """The positions and labels in a CSV, as text where they are no numbers."""
    from upweight.errors import InputError
    from upweight.tabular import read_table

    try:
        table = read_table(path)
    except InputError as error:
        raise InputError(f"--labels: {error}") from None
    if not {"position", "label"} <= set(table.columns):
        raise InputError(
            f"--labels: {path.name} needs columns position and label; it has {', '.join(map(str, table.columns))}"
        )
    for name in ("position", "label"):
        missing = table.index[table[name].isna()]
        if len(missing):
            raise InputError(f"--labels: {path.name} has no {name} in row {missing[0]}; fill it, or remove the row")
    positions = table["position"]
    if positions.dtype.kind not in "iu":
        odd = [value for value in positions if not str(value).isascii() or not str(value).isdigit()]
        raise InputError(
            f"--labels: {path.name} needs whole numbers in its column position, such as 17; it has "
            f"{odd[0] if odd else positions.iloc[0]!s}"
        )
    twice = positions[positions.duplicated()]
    if len(twice):
        rows = positions.index[positions == twice.iloc[0]]
        raise InputError(
            f"--labels: {path.name} gives position {twice.iloc[0]} in rows {rows[0]} and {rows[1]}; leave one of them"
        )
    return table


def refuse_other_positions(path: Path, positions: pd.Series, n: int) -> None:
    """Refuse positions in a CSV that are none of a study's n training examples."""
    from upweight.errors import InputError

    outside = positions[(positions < 0) | (positions >= n)]
    if len(outside):
        raise InputError(
            f"--labels: {path.name} has position {outside.iloc[0]} in row {outside.index[0]}; the study's training "
            f"examples are 0 … {n - 1}"
        )


def shares(
    study: Path,
    ratios: list[float] | None,
    choose: str,
    per: str,
    method: str,
    search: bool,
    damping: float,
) -> list[float]:
    """The shares of the units to try; refuses, before the study is read, what no study could make possible."""
    from upweight import scalars
    from upweight.errors import InputError
    from upweight.quantities.generalized.response import Method
    from upweight.select.rules import Scope

    refuse_other(study)
    scalars.one_of("--choose", choose, RULES)
    scalars.one_of("--per", per, get_args(Scope))
    scalars.one_of("--method", method, get_args(Method))
    scalars.number("--damping", damping, least=0)
    given = [scalars.number("--ratio", ratio, above=0, most=1) for ratio in ratios or [0.05]]
    wanted = [1.0] if method == "IF" else sorted(set(given))
    if len(wanted) > 1 and not search:
        raise InputError(
            f"--ratio: {len(wanted)} of them are compared by held-out examples; give one, or leave out --no-search"
        )
    return wanted


def choices(opened: Source, wanted: list[float], choose: str, per: str, seed: int) -> dict[float, Any]:
    """What may move, by ratio."""
    from upweight import select

    rule = getattr(select, choose.replace("-", "_"))
    more = {"seed": seed} if choose == "random" else {}
    return {
        ratio: select.everything(opened.objective.layout) if ratio >= 1 else rule(ratio, per=per, **more)
        for ratio in wanted
    }
