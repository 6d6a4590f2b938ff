"""`upweight attack`: how easily could a model be made to err by changing a few of its training images?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight import scalars
from upweight.cli.opening import opening
from upweight.cli.options import FOLDER, AsJson, Force, Output, Quiet, Seed
from upweight.cli.outputs import plan
from upweight.cli.session import session
from upweight.cli.study_file import read_study, refuse_other

if TYPE_CHECKING:
    import pandas as pd

    from upweight.report import Report
    from upweight.study import Study
    from upweight.tasks import Attack

StudyFile = Annotated[
    Path, typer.Argument(help="A Python study file (see examples/digits_attack_study.py).", show_default=False)
]
Count = Annotated[int, typer.Option(min=1, help="Training images that each attack changes.")]
Queries = Annotated[int, typer.Option(min=1, help="How many queries to attack, drawn among those predicted rightly.")]
OneQuery = Annotated[int | None, typer.Option("--query", min=0, help="Attack this query alone, by position.")]
Step = Annotated[float, typer.Option(help="Size of a step, in levels of 0 … 255.")]
Iterations = Annotated[int, typer.Option(min=1, help="Steps at most.")]
Radius = Annotated[float, typer.Option(help="Largest change of a level; below .5, so that no stored byte changes.")]
Together = Annotated[bool, typer.Option("--together", help="One attack on all the queries, not one on each.")]
PICTURED = 4


def attack(
    study: StudyFile,
    count: Count = 1,
    queries: Queries = 20,
    query: OneQuery = None,
    together: Together = False,
    step: Step = 0.02,
    iterations: Iterations = 100,
    radius: Radius = 0.499,
    output: Output = FOLDER,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit a model of your own: which predictions hang on the invisible part of a few training images?

    Training images are changed by less than half a level of 255, so that their stored files stay the same byte for
    byte, and the model's top is retrained after every step. The study gives the frozen network and the images.
    Finished attacks are kept in the results' folder: the same command resumes after an interruption.
    """
    with session(as_json, quiet) as run:
        from upweight import files
        from upweight.cli.layout import facts, table
        from upweight.tasks import Aim, Box, Climb, LeverChoice, Resources
        from upweight.tasks import attack as attacked

        outputs = plan(output, "attack", inputs=[study], force=force)
        refuse_other(study)
        scalars.number("--step", step, above=0)
        climb = Climb(step=step, iterations=iterations, box=Box(radius))
        finished = outputs.folder / "attacks"
        files.check(finished / "attack.npz")
        opened = opening(run, outputs, study, lambda: read_study(study))
        _check(opened, study)
        chosen = _targets(opened, queries, query, seed)
        run.stage(f"attacking {len(chosen)} queries through {count} training image{'s' * (count > 1)} each")
        found = attacked(
            opened.objective,
            opened.network,
            opened.images,
            opened.queries,
            aim=Aim(targets=chosen, together=together, query_ids=opened.query_ids),
            levers=LeverChoice(count=count),
            climb=climb,
            resources=Resources(folder=finished),
        )
        written = outputs.write({".html": make_report(opened, found, study.name, run.warnings).html()})
        levers = found.levers.to_pandas().head(5)
        if not as_json:
            run.show(
                headline(found),
                facts("The attack", summary(found)),
                table("Strongest levers", LEVER_COLUMNS, _rows(levers[list(LEVER_FIELDS)])),
                table("Predictions", OUTCOME_COLUMNS, _rows(found.to_pandas().head(10))),
            )
        run.files = {"report": written[".html"]}
        run.result = {"study": study, "headline": headline(found), **summary(found)} | {
            "levers": found.levers.to_pandas().head(20).to_dict("records"),
            "attacks": found.to_pandas().to_dict("records"),
        }


LEVER_FIELDS = ("id", "position", "first", "candidate", "mean_norm")
LEVER_COLUMNS = ("image", "position", "first in", "candidate in", "mean ‖∇ₓ I_pert‖₁")
OUTCOME_COLUMNS = ("query", "images", "flipped", "steps", "p before", "p after")


def headline(found: Attack) -> str:
    """The share flipped, in a sentence."""
    return repr(found).splitlines()[0].removeprefix("Attack: ")


def summary(found: Attack) -> dict[str, Any]:
    """An attack in figures."""
    share = found.share()
    return {
        "predictions attacked": found.flipped.numel(),
        "flipped": int(found.flipped.sum()),
        "share flipped": share.value,
        "95 % interval from": share.interval.low,
        "95 % interval to": share.interval.high,
        "training images changed by each": found.count,
        "largest change (levels of 255)": float(found.changes.abs().max()) if found.changes.numel() else None,
        "influence held by the 10 strongest": found.levers.concentration(10),
        "seconds": found.seconds,
    }


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Cells as they are: whole numbers stay whole beside fractions."""
    return frame.astype(object).to_numpy().tolist()


def _check(study: Study, path: Path) -> None:
    from upweight.errors import InputError

    for name in ("network", "images"):
        if getattr(study, name) is None:
            raise InputError(
                f"{path}: its study gives no {name}; an attack needs the frozen network and the stored training "
                "images, as Study(objective, queries, images=…, network=…)"
            )


def _targets(study: Study, queries: int, query: int | None, seed: int) -> list[int]:
    import torch

    from upweight.errors import InputError
    from upweight.tasks import predictions

    if query is not None:
        return [query]
    right = (~predictions(study.objective, study.queries).wrong).nonzero().flatten()
    if not len(right):
        raise InputError("queries: all are predicted wrongly already, so none can be made to err")
    order = torch.randperm(len(right), generator=scalars.generator(seed))
    return sorted(right[order[:queries]].tolist())


def make_report(study: Study, found: Attack, title: str, warnings: list[str]) -> Report:
    """The page: how many were flipped, how p(true label) fell, the levers, and the images that were changed."""
    import numpy as np

    from upweight import plots
    from upweight.predictions import named, predictions
    from upweight.report import Facts, Figure, Images, Report, Table, Text, Warnings

    said = predictions(study.objective)
    labels = named(said.given, study.class_names)
    # One line per prediction: of attacks on one each, or of one attack on all.
    paths = found.probabilities.transpose(1, 2).flatten(0, 1)
    levers = found.levers.to_pandas().head(10)
    places = levers["position"].tolist()
    captions = [
        f"{name} ({labels[place]}): first lever of {first}, candidate in {candidate}"
        for name, place, first, candidate in _rows(levers[["id", "position", "first", "candidate"]])
    ]
    changed = [
        Figure(
            plots.changed_images(
                found.stored[number].numpy(),
                found.changes[number].numpy(),
                [f"{found.ids[place]} ({labels[place]})" for place in found.positions[number]],
                title=f"Query {found.query_ids[int(found.targets[number, 0])]}",
            ),
            "Above the stored images; under each the change in levels, far enlarged. Rounded, the bytes are the same.",
            "Stored training images and the changes that an attack made to them",
        )
        for number in range(min(PICTURED, len(found.changes)))
        if found.count <= 6
    ]
    return (
        Report(f"How attackable? {title}", headline(found) + ".")
        .section(
            "The attack",
            Text(
                "An audit of one's own model: training images are changed by less than half a level of 255, so that "
                "the stored files stay the same byte for byte, and the top is retrained to its optimum after every "
                "step. A prediction that flips hangs on the invisible part of so few images."
            ),
            Facts(summary(found)),
            Warnings(warnings),
            Figure(
                plots.attack_paths(
                    paths,
                    found.flipped.flatten(),
                    threshold=0.5 if said.probabilities is not None and said.probabilities.shape[1] == 2 else None,
                ),
                "One line for each prediction that was attacked.",
                "p(true label) against the step of the attack",
            ),
        )
        .section(
            "The levers",
            Text("Training images ranked by ‖∇ₓ I_pert‖₁: what they could move within a box of equal size."),
            Images([np.asarray(study.images[place]) for place in places], captions),
            Table(list(LEVER_COLUMNS), _rows(levers[list(LEVER_FIELDS)]), "The ten strongest."),
        )
        .section(
            "The predictions",
            Table(list(OUTCOME_COLUMNS), _rows(found.to_pandas()), "Each prediction that was attacked."),
            *changed,
        )
    )
