"""The data behind a store with decisions applied, and its training again: of a study file, of a CSV."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from upweight.cli.session import Session
from upweight.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from upweight.explore.contents import Contents
    from upweight.explore.display import Origin
    from upweight.objective import Objective

LIST, ARRAYS = ".csv", ".npz"
Judged = dict[str, np.ndarray]
"""How a model does on the held-out examples: by the name of a figure its value for each of them, ``[examples]``."""


@dataclass(frozen=True, eq=False)
class Cleaning:
    """Data with decisions applied.

    Attributes
    ----------
    relabelled, excluded
        New labels or values by position, and positions left out.
    contents
        The cleaned data as files, by their endings.
    before, after
        Train on the data as they are, and on the cleaned ones, and judge on held-out examples; None where that can't be
        done.
    held_out
        What is judged on, in words.
    notes
        What else is to be known of the data.
    of_training
        What else is to be known where both models are trained.
    """

    relabelled: dict[int, str]
    excluded: list[int]
    contents: dict[str, bytes]
    before: Callable[[], Judged] | None
    after: Callable[[], Judged] | None
    held_out: str
    notes: tuple[str, ...] = ()
    of_training: tuple[str, ...] = ()


def origin_of(contents: Contents) -> Origin:
    """Where a store's data come from.

    Raises
    ------
    InputError
        If it isn't known.
    """
    from upweight.explore.display import Origin
    from upweight.jobs.begun import begun

    if contents.display.origin is not None:
        return contents.display.origin
    found = begun(contents.place)
    if found is None:
        raise InputError(
            f"{contents.place}: was begun by a Python program, so that its data and training aren't known here; the "
            "decisions are in its decisions.parquet. `upweight explore STUDY.py` keeps where its data come from"
        )
    return Origin("study", found.study, found.folder, found.digest, {})


def cleaned(run: Session, contents: Contents, origin: Origin) -> Cleaning:
    """The data of a store with its decisions applied to a copy.

    Raises
    ------
    InputError
        If the file is no more, gives other data than the store's, or a decision doesn't fit them.
    """
    if not Path(origin.path).is_file():
        raise InputError(f"{origin.path}: the file that the store was made of is no more; bring it back")
    if not Path(origin.folder).is_dir():
        raise InputError(f"{origin.folder}: the folder that the store was made in is no more; bring it back")
    return (_of_csv if origin.kind == "csv" else _of_study)(run, contents, origin)


def _of_study(run: Session, contents: Contents, origin: Origin) -> Cleaning:
    from upweight.cli.job import studied
    from upweight.cli.job_columns import kept
    from upweight.explore.cleaned import changes
    from upweight.jobs import fingerprints
    from upweight.jobs.begun import Begun

    job = Begun(origin.path, origin.digest, origin.folder, {}, {})
    with contextlib.chdir(origin.folder):
        study = studied(run, job, contents.place)
    objective = study.objective
    theirs, ours = contents.stored.said["fingerprints"].get("data"), fingerprints.of_objective(objective)["data"]
    if theirs != ours:
        raise InputError(
            f"{origin.path}: gives other training data now than when the store was made (data={ours} instead of "
            f"{theirs}); bring the file or its data back: decisions are about the examples as they were"
        )
    raw, given = _targets(objective)
    labels = _answers(objective, raw, given, study.class_names)
    relabelled, excluded = changes(contents.decisions.standing(), labels)
    left = np.setdiff1d(np.arange(objective.n), excluded)
    targets = raw.clone() if relabelled and raw is not None else None
    if relabelled:
        assert raw is not None and labels is not None and targets is not None  # noqa: PT018
        for position, label in relabelled.items():
            is_value = given is None
            targets[position] = float(label) if is_value else _coded(label, labels, raw, study.class_names)
    other = _with(objective, left, targets)
    own = {} if study.table is None else {str(name): kept(study.table[name]) for name in study.table.columns}
    contents_of = {LIST: _listing(contents, labels, relabelled, left, own)}
    arrays = _arrays(other)
    if arrays is not None:
        contents_of[ARRAYS] = arrays
    train, words = _training(study.retrain, objective)
    queries = study.queries
    return Cleaning(
        relabelled,
        excluded,
        contents_of,
        None if train is None else lambda: _judged(train(objective), queries),
        None if train is None else lambda: _judged(train(other), queries),
        "the study's queries",
        of_training=words,
    )


def _of_csv(run: Session, contents: Contents, origin: Origin) -> Cleaning:
    from upweight.cli.csv_source import read, split, trained
    from upweight.cli.explored import options_of
    from upweight.explore.cleaned import changes
    from upweight.jobs.of_study import digest
    from upweight.report.numbers import all_digits
    from upweight.tabular import rewritten

    path, asked = Path(origin.path), origin.options
    if digest(path) != origin.digest:
        raise InputError(
            f"{path}: has changed since the store was made, and decisions are about the rows as they were; bring it "
            "back, or explore the new one into another store"
        )
    run.stage(f"reading {path.name}")
    options = options_of(asked)
    table = read(path, asked["target"], options)
    train, held_out = split(table, [], asked["seed"])
    given = [table.classes[each] if table.classifies else all_digits(each) for each in train.labels.tolist()]
    # A loss that isn't squared error shows no values: then none was set.
    relabelled, excluded = changes(contents.decisions.standing(), np.array(given, dtype=object))
    labels = train.labels.copy()
    for position, answer in relabelled.items():
        labels[position] = table.classes.index(answer) if table.classifies else float(answer)
    left = np.setdiff1d(np.arange(len(train)), excluded)
    from dataclasses import replace

    other = replace(train, labels=labels).take(left)

    def judged(some: Any) -> Judged:
        with contextlib.chdir(origin.folder):  # where an estimator of one's own was imported from
            model = trained(some, options, asked["seed"])
        return _judged(model.objective, model.queries(held_out))

    answers: dict[int, str | float] = {int(train.rows[position]): each for position, each in relabelled.items()}
    out = [int(train.rows[position]) for position in excluded]
    written = rewritten(table, answers, out, "the cleaned file")
    return Cleaning(
        relabelled,
        excluded,
        {written.ending: written.content},
        lambda: judged(train),
        lambda: judged(other),
        f"{len(held_out):,} rows held out of training",
        written.notes,
    )


def _listing(
    contents: Contents,
    labels: np.ndarray | None,
    relabelled: dict[int, str],
    left: np.ndarray,
    own: dict[str, np.ndarray],
) -> bytes:
    """The training examples that stay, in order: id, position, label now and before, and the study's own columns."""
    import pandas as pd

    from upweight.spreadsheets import as_csv

    found: dict[str, Any] = {"id": contents.display.train.ids[left], "position": left}
    if labels is not None:
        found["label"] = [relabelled.get(position, labels[position]) for position in left.tolist()]
        found["label before"] = labels[left]
    found |= {f"{name} (column)" if name in found else name: values[left] for name, values in own.items()}
    frame: pd.DataFrame = pd.DataFrame(found)
    return as_csv(frame)


def _arrays(objective: Objective) -> bytes | None:
    """Training data that are held as arrays, as a file of NumPy's; None of others."""
    from torch.utils import _pytree as pytree

    from upweight.data import ArrayData

    if not isinstance(objective.data, ArrayData):
        return None
    leaves = [leaf for leaf in pytree.tree_leaves(objective.data.arrays) if isinstance(leaf, torch.Tensor)]
    names = ["inputs", "targets"] if len(leaves) == 2 else [f"array_{place}" for place in range(len(leaves))]
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: leaf.cpu().numpy() for name, leaf in zip(names, leaves, strict=True)})  # type: ignore[arg-type]
    return stream.getvalue()


def _targets(objective: Objective) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Targets as they are, and as class numbers; None of data that have none, or no classes."""
    from upweight.losses import split_batch
    from upweight.predictions import given_labels

    try:
        raw = torch.cat([split_batch(batch)[1] for _, batch in objective.data.batches(None, objective.engine.rows)])
    except InputError:
        return None, None
    try:
        return raw, given_labels(objective)
    except InputError:
        return raw, None


def _answers(
    objective: Objective, raw: torch.Tensor | None, classes: torch.Tensor | None, names: Any
) -> np.ndarray | None:
    """Labels, or the values of a quantity, as decisions have them; None of data that have neither."""
    from upweight.losses import SquaredError
    from upweight.predictions import named
    from upweight.report.numbers import all_digits, in_decimals

    if classes is None:
        if raw is None or raw.numel() != objective.n or not isinstance(objective.loss, SquaredError):
            return None
        values = in_decimals(raw.reshape(-1).cpu().numpy())
        return np.array([all_digits(each) for each in values.tolist()], dtype=object)
    return np.array([str(each) for each in named(classes, names).tolist()], dtype=object)


def _coded(label: str, labels: np.ndarray, raw: torch.Tensor, names: Any) -> torch.Tensor:
    """A label as the data write it: as another example of it, else by its number."""
    same = np.flatnonzero(labels == label)
    if len(same):
        return raw[int(same[0])]
    if names is not None and label in names:
        return raw.new_full(raw.shape[1:], list(names).index(label))
    raise InputError(f"decisions: no training example has the label {label!r}, and it is no name of a class")


def _with(objective: Objective, left: np.ndarray, targets: torch.Tensor | None) -> Objective:
    """The objective on the examples that stay, with other targets; their weights and names go with them."""
    from upweight.losses import with_targets

    batch = objective.data.take(left.tolist())
    if targets is not None:
        batch = with_targets(batch, targets[torch.from_numpy(left)])
    problem = objective.problem
    changes: dict[str, Any] = {"data": batch, "collate": None, "num_workers": 0}
    if problem.given.weights:
        changes["weights"] = problem.weights[torch.from_numpy(left)]
    if problem.given.ids:
        changes["ids"] = np.asarray(problem.ids)[left].tolist()
    return objective.replace(**changes)


def _training(
    retrain: Callable[[Objective], Objective] | None, objective: Objective
) -> tuple[Callable[[Objective], Objective] | None, tuple[str, ...]]:
    from upweight.retraining import fit

    if retrain is not None:
        return retrain, (
            "Both models were trained by the study's own retrain. The interval is that of other held-out examples; "
            "other random starts of the training are not in it.",
        )
    if objective.is_linear:
        return fit, ("Both models were trained to the optimum of the same regularised risk.",)
    return None, (
        "The study can't be trained again from here: its outputs aren't linear in its parameters, and it gives no "
        "Study(retrain=…), a function of the objective with the cleaned data that trains its model.",
    )


def _judged(objective: Objective, queries: Any) -> Judged:
    from upweight.explore.cleaned import ABSOLUTE, ACCURACY, LOSS, ROOT_SQUARE
    from upweight.predictions import fitted_values, predictions

    with contextlib.suppress(InputError):
        said = predictions(objective, queries)
        found = {ACCURACY: (~said.wrong).double(), LOSS: said.losses.double()}
        return {name: values.cpu().numpy() for name, values in found.items()}
    with contextlib.suppress(InputError):
        errors = fitted_values(objective, queries).residuals.abs().double().cpu().numpy()
        return {ABSOLUTE: errors, ROOT_SQUARE: errors}
    return {LOSS: objective.losses(queries).double().cpu().numpy()}


@contextlib.contextmanager
def training_told(kept: str) -> Iterator[None]:
    """What goes wrong in a training, whatever it raises, as one message that says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        words = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"retraining failed ({words}); {kept}") from error
