"""What a classifier's outputs say: class, probability, and whether the given label is among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from upweight import kinds, losses
from upweight.errors import InputError
from upweight.objective import Objective


@dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's word on examples.

    Attributes
    ----------
    given, predicted
        Class numbers, ``[examples]``.
    probabilities
        ``[examples, classes]``; None for losses that give none (hinge, one against the rest).
    losses
        Loss of the given label, ``[examples]``.
    """

    given: Int[Tensor, " examples"]
    predicted: Int[Tensor, " examples"]
    probabilities: Float[Tensor, "examples classes"] | None
    losses: Float[Tensor, " examples"]

    @property
    def wrong(self) -> Bool[Tensor, " examples"]:
        """Where the prediction is not the given label."""
        return self.given != self.predicted

    def probability(self, classes: Int[Tensor, " examples"]) -> Float[Tensor, " examples"] | None:
        """The probability of one class for each example."""
        if self.probabilities is None:
            return None
        return self.probabilities.gather(1, classes[:, None]).squeeze(1)

    def hardest(self) -> int:
        """Position of the wrong prediction of highest loss; of the highest loss, where none is wrong."""
        among = self.losses.masked_fill(~self.wrong, -torch.inf) if self.wrong.any() else self.losses
        return int(among.argmax())


def predictions(objective: Objective, data: Any = None, outputs: Tensor | None = None) -> Predictions:
    """What the model says of examples, or what other ``outputs`` do.

    Parameters
    ----------
    objective
        A trained classifier's.
    data
        Examples in the form of the training data (default: the training data).
    outputs
        In place of the model's, ``[examples, …]``: a row for each of ``data``, of as many numbers as the model gives.

    Raises
    ------
    InputError
        If the objective isn't a classification with one label an example, or ``outputs`` has another shape.
    """
    kinds.check(predictions, locals())
    source = objective.data if data is None else objective.queries(data)
    loss = _classifying(objective)
    values = objective.outputs(source) if outputs is None else _fitting(objective, len(source), outputs)
    parts, compared, start = [], [], 0
    for _, batch in source.batches(None, objective.engine.rows):
        targets = _single_labels(batch)
        chunk = values[start : start + len(targets)]
        start += len(targets)
        parts.append(targets)
        compared.append(loss.of_outputs(chunk, batch))
    by_class = _by_class(values)
    single = values[0].numel() == 1
    return Predictions(
        given=_numbered(torch.cat(parts), single),
        predicted=by_class.argmax(1),
        probabilities=by_class.softmax(1) if _is_probability(loss, single) else None,
        losses=torch.cat(compared),
    )


def _fitting(objective: Objective, examples: int, outputs: Tensor) -> Tensor:
    """The outputs given, if they have the model's numbers for so many examples."""
    width = objective.engine.kept("numbers of outputs", lambda: objective.outputs(objective.data.take([0])).numel())
    if outputs.dim() == 0 or len(outputs) != examples or outputs.numel() != examples * width:
        raise InputError(
            f"outputs: got shape {tuple(outputs.shape)}; give {examples:,} rows, one for each example, of {width:,} "
            f"number{'s' if width > 1 else ''}, as the model gives them"
        )
    return outputs


@dataclass(frozen=True, eq=False)
class FittedValues:
    """A regression's word on examples, in the target's own unit.

    Attributes
    ----------
    given, predicted
        Targets and outputs, ``[examples]``.
    losses
        Of the targets, ``[examples]``.
    """

    given: Float[Tensor, " examples"]
    predicted: Float[Tensor, " examples"]
    losses: Float[Tensor, " examples"]

    @property
    def residuals(self) -> Float[Tensor, " examples"]:
        """Given less predicted."""
        return self.given - self.predicted


def fitted_values(objective: Objective, data: Any = None) -> FittedValues:
    """What a regression says of examples.

    Parameters
    ----------
    objective
        A trained regression's, with squared error and one target an example.
    data
        Examples in the form of the training data (default: the training data).

    Raises
    ------
    InputError
        If the loss isn't `losses.SquaredError`, or there are several targets an example.
    """
    loss = objective.loss
    if not isinstance(loss, losses.SquaredError):
        raise InputError(
            f"loss: {type(loss).__name__} is none of a regression; wrong numbers and residuals need SquaredError, and "
            "tasks.label_errors takes classifiers"
        )
    source = objective.data if data is None else objective.queries(data)
    batches = source.batches(None, objective.engine.rows)
    targets = torch.cat([losses.split_batch(batch)[1].reshape(-1) for _, batch in batches])
    outputs = objective.outputs(source)
    if outputs.numel() != len(source) or targets.numel() != len(source):
        raise InputError(f"data: {targets.numel() // len(source)} targets an example; wrong numbers need one")
    predicted = outputs.reshape(-1)
    return FittedValues(targets, predicted, loss.compare(predicted, targets))


def given_labels(objective: Objective) -> Int[Tensor, " train"]:
    """The training examples' class numbers, as `Predictions.given`, without running the model over them.

    Raises
    ------
    InputError
        As `predictions`.
    """
    _classifying(objective)
    single = objective.outputs(objective.data.take([0]))[0].numel() == 1
    parts = [_single_labels(batch) for _, batch in objective.data.batches(None, objective.engine.rows)]
    return _numbered(torch.cat(parts), single)


def label_column(objective: Objective) -> dict[str, list[Any]]:
    """The training examples' labels as a column ``label``, by name.

    Nothing of what is no classification, or has such a column already.
    """
    if "label" in objective.columns or not _has_one_label(objective):
        return {}
    given = given_labels(objective)
    return {} if bool((given < 0).any()) else {"label": named(given, objective.class_names).tolist()}


def in_words(objective: Objective, data: Any, class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Of each example its label, and what the model says; of what is no classification, nothing."""
    said, labels, answers = _named(objective, data, class_names)
    if said is None:
        return ()
    likely = said.probability(said.predicted)
    shares = [""] * len(labels) if likely is None else [f" (p = {share:.3f})" for share in likely.tolist()]
    return tuple(
        f"Labelled {one}; the model says {two}{share}." for one, two, share in zip(labels, answers, shares, strict=True)
    )


def in_columns(objective: Objective, data: Any, class_names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The same as columns ``label`` and ``prediction``, by name."""
    said, labels, answers = _named(objective, data, class_names)
    return {} if said is None else {"label": labels, "prediction": answers}


def _named(
    objective: Objective, data: Any, class_names: Sequence[str] | None
) -> tuple[Predictions | None, list[Any], list[Any]]:
    """Predictions with names of labels and of answers; None of what is no classification, or has no labels."""
    if not _has_one_label(objective):
        return None, [], []
    said, names = predictions(objective, data), objective.class_names if class_names is None else class_names
    if bool((said.given < 0).any()):
        return None, [], []
    return said, named(said.given, names).tolist(), named(said.predicted, names).tolist()


def _has_one_label(objective: Objective) -> bool:
    """Whether each example has one label, which is predicted."""
    loss, first = objective.loss, objective.data.take([0])
    if not isinstance(loss, losses.Loss) or not loss.classifies or objective.outputs(first).dim() > 2:
        return False
    try:
        return len(_single_labels(first)) == 1
    except InputError:
        return False


def _classifying(objective: Objective) -> losses.Loss:
    loss = objective.loss
    if not isinstance(loss, losses.Loss) or not loss.classifies:
        raise InputError(
            f"loss: {type(loss).__name__} doesn't say which class is predicted; this needs a classification loss of "
            "upweight.losses, such as CrossEntropy"
        )
    return loss


def _single_labels(batch: Any) -> Tensor:
    targets = losses.split_batch(batch)[1]
    if targets.dim() != 1 and targets.numel() != len(targets):
        raise InputError(f"data: targets {tuple(targets.shape)} hold several labels an example; one is needed")
    return targets.reshape(len(targets))


def _numbered(targets: Tensor, single: bool) -> Int[Tensor, " examples"]:
    """Class numbers; binary targets may be −1 and 1."""
    return (targets > 0).long() if single else targets.long()


def _by_class(outputs: Tensor) -> Float[Tensor, "examples classes"]:
    """A single output f is the second of two classes' outputs 0 and f."""
    flat = outputs.reshape(len(outputs), -1)
    return torch.cat([torch.zeros_like(flat), flat], dim=1) if flat.shape[1] == 1 else flat


def _is_probability(loss: losses.Loss, single: bool) -> bool:
    return isinstance(loss, losses.CrossEntropy) or (single and isinstance(loss, losses.BinaryLogistic))


def named(classes: Any, names: Sequence[str] | None) -> np.ndarray:
    """Class names for class numbers ``[examples]``; the numbers themselves where there are no names."""
    numbers = torch.as_tensor(classes).cpu().numpy()
    if names is None:
        return numbers
    if numbers.size and int(numbers.max()) >= len(names):
        raise InputError(f"class_names: {len(names)} names, but class {int(numbers.max())} is among the labels")
    return np.asarray(names, dtype=object)[numbers]
