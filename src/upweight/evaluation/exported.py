"""Ground truths in the forms of dattri and quanda, so that their methods are judged by the same retrained models.

dattri takes what was measured: a pair of values ``[subsets, queries]``, larger where the model does better, and of
indices ``[subsets, size]``. quanda takes the models themselves, and asks them for the queries' log-probabilities.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import files, kinds, scalars
from upweight.errors import InputError
from upweight.evaluation.ground_truth import GroundTruth
from upweight.evaluation.training import Training, as_training
from upweight.objective import Objective
from upweight.places import place
from upweight.retraining.by_weights import AtWeight
from upweight.retraining.workers import Train

Library = Literal["dattri", "quanda"]
GROUND_TRUTH, METADATA, INDICES, WEIGHTS = "ground_truth.pt", "metadata.yml", "indices.txt", "model_weights_{}.pt"
SUBSETS, CHECKPOINT = "subset_ids.yaml", "0_lds_model_{}.ckpt"


def as_dattri(truth: GroundTruth) -> tuple[Float[Tensor, "subsets queries"], Int[Tensor, "subsets size"]]:
    """What ``dattri.metric.lds(scores, …)`` takes beside its scores, which are ``[train, queries]``.

    Means over seeds, with the sign by which a larger value is a better model: minus the losses, as dattri has them.

    Parameters
    ----------
    truth
        What `ground_truth` gave.

    Returns
    -------
    Values ``[subsets, queries]``, and positions of each subset's training examples, ``[subsets, size]``.
    """
    kinds.check(as_dattri, locals())
    values = truth.outcomes.mean(1)
    return (values if truth.higher_is_better else -values), truth.subsets.clone()


def export_truth(
    truth: GroundTruth,
    folder: str | os.PathLike[str],
    library: Library,
    *,
    objective: Objective | None = None,
    train: Train | Training | None = None,
) -> Path:
    """Write a ground truth as another library reads it, in a folder that isn't there yet or is empty.

    Parameters
    ----------
    truth
        What `ground_truth` gave.
    folder
        Where to.
    library
        ``dattri``: ``ground_truth.pt`` (`as_dattri`, for ``torch.load``) and, with models, the folder that
        ``calculate_lds_ground_truth`` goes through: ``metadata.yml``, and for each subset ``indices.txt`` and
        ``model_weights_SEED.pt``. Paths in it are whole, so the folder stays where it is.
        ``quanda``: ``subset_ids.yaml`` and ``0_lds_model_I.ckpt``, for ``LinearDatamodelingMetric(subset_ids=…,
        subset_ckpt_filenames=…)`` of quanda 0.5. It has one model for each subset, so a subset stands there once for
        each seed, and its score is against single models rather than their mean.
    objective, train
        With these models are written too: those of the `Training` that made the truth. Where it has a folder they are
        read back, else trained anew. dattri's pair can do without; quanda can't.

    Raises
    ------
    InputError
        If an argument is impossible, models are wanted and aren't given, or the folder holds something.
    upweight.files.NotWrittenError
        If it can't be written to.
    """
    kinds.check(export_truth, locals())
    scalars.one_of("library", library, get_args(Library))
    target = place("folder", folder)
    if (objective is None) != (train is None):
        missing = "objective" if objective is None else "train"
        raise InputError(f"{missing}: give both the objective and the train that made the truth, or neither")
    if train is None and library == "quanda":
        raise InputError("train: quanda asks the retrained models themselves; give objective= and train=")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"folder: {str(target)!r} holds something; give one that isn't there yet")
    training = None if train is None else as_training(train)
    if training is not None and len(training.seeds) != truth.outcomes.shape[1]:
        raise InputError(
            f"train: it has {len(training.seeds)} seeds, and the truth {truth.outcomes.shape[1]}; give the Training "
            "that made it"
        )
    if objective is not None and training is not None:
        for path, content in _models(truth, objective, training, library, target):
            files.write(path, content)
    contents = _lists(truth, target, library, with_models=training is not None)
    files.write_all({target / name: content for name, content in contents.items()})
    return target


def _lists(truth: GroundTruth, target: Path, library: Library, *, with_models: bool) -> dict[str, str | bytes]:
    """All but the models, by name."""
    count, seeds, _ = truth.outcomes.shape
    if library == "quanda":
        return {SUBSETS: json.dumps([subset for subset in truth.subsets.tolist() for _ in range(seeds)])}
    contents: dict[str, str | bytes] = {GROUND_TRUTH: _saved(as_dattri(truth))}
    if with_models:
        whole = target.absolute()
        places = "".join(f"  {number}: {json.dumps(str(whole / str(number)))}\n" for number in range(count))
        contents[METADATA] = f"num_subsets: {count}\nnum_runs_per_subset: {seeds}\nsubset_dir_map:\n{places}"
        for number, subset in enumerate(truth.subsets.tolist()):
            contents[f"{number}/{INDICES}"] = "".join(f"{position}\n" for position in subset)
    return contents


def _models(
    truth: GroundTruth, objective: Objective, training: Training, library: Library, target: Path
) -> Iterator[tuple[Path, bytes]]:
    """Path and state dict of every model; they come all subsets of the first seed, then of the next."""
    seeds = len(training.seeds)
    if truth.protocol.fixed_order:
        training = replace(training, train=AtWeight(training.train, objective.n))
    for number, model in enumerate(training.models(objective, list(truth.subsets))):
        seed, subset = divmod(number, len(truth.subsets))
        name = f"{subset}/{WEIGHTS.format(seed)}" if library == "dattri" else CHECKPOINT.format(subset * seeds + seed)
        yield target / name, _saved({key: value.detach().cpu() for key, value in model.model.state_dict().items()})


def _saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()
