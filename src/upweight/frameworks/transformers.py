"""`from_transformers`: a model of transformers with its dataset as an `Objective`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from upweight import scalars
from upweight.data import Batch
from upweight.engine import Budget
from upweight.forward import Forward, half_of
from upweight.frameworks import tasks
from upweight.frameworks.collation import TEXT
from upweight.frameworks.decay import learnt
from upweight.frameworks.evaluated import evaluated, refuse_no_model
from upweight.frameworks.examples import Examples, read_examples
from upweight.frameworks.said import said_of_loss, said_of_rows
from upweight.frameworks.tokens import Looked, refuse_other_tokenizer, vocabulary
from upweight.losses import CrossEntropy
from upweight.objective import Objective
from upweight.wrappers import unprefixed, unwrapped


def from_transformers(
    model: nn.Module,
    dataset: Any,
    tokenizer: Any = None,
    *,
    task: str | None = None,
    loss: Any = None,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    text: str = TEXT,
    max_length: int | None = None,
    collate: Callable[[list[Any]], Batch] | None = None,
    optimizer: Any = None,
    l2: float | Mapping[str, float] | None = None,
    parameters: Any = None,
    weights: Any = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    forward: Forward | None = None,
    budget: Budget | None = None,
    validate: bool = True,
) -> Objective:
    """The objective that a model of transformers was trained on.

    R is the loss of the training data as one batch: the mean over all tokens whose label counts
    (``num_items_in_batch`` of `Trainer`, over all data at once), of sequences the mean over examples. The value of an
    example is its share, the sum over its tokens times n over their number N, so that leaving it out takes its tokens
    out of the sum.

    ======================== ==========================================================================
    task                     loss
    ======================== ==========================================================================
    causal-lm                `CausalLM`, labels as the tokens are; without labels all tokens count
    masked-lm, seq2seq-lm,   `CrossEntropy` of every token whose label isn't −100
    token-classification
    sequence-classification  `CrossEntropy`; of one output squared error, of labels in floating point a
                             logistic loss for each (``problem_type`` of the configuration)
    multiple-choice          `CrossEntropy`
    ======================== ==========================================================================

    Parameters
    ----------
    model
        Trained, with or without adapters of PEFT, compiled or parallel. It is copied as it is in eval mode, without
        dropout, and stays as it is.
    dataset
        Training examples: rows with the model's arguments by name (a Hugging Face dataset, ``Subset``,
        ``ConcatDataset``, a list), texts, a mapping of padded arrays, or a ``DataLoader`` of rows. What the model's
        ``forward`` doesn't take is left out, as `Trainer` does, and shown: ``objective.columns``.
    tokenizer
        What pads sequences, makes tokens of texts, and texts of tokens.
    task
        One of the table (default: as the model's class is named).
    loss
        Another than the task's: one of `upweight.losses`, of torch, or a function ``(model, batch) -> [batch]`` or
        ``[batch, tokens]``. Torch's ``CrossEntropyLoss`` looks at next tokens where the task does.
    label_smoothing, class_weights
        As the trainer had them, where no loss is given.
    text, max_length
        The column of texts and the number of tokens to cut them at, for rows without ``input_ids``.
    collate
        What makes a batch of rows (a data collator), in place of padding here; labels are then its own.
    optimizer
        That of the training, of whose weight decay l2 is made (`upweight.l2_of`), parameters without decay included.
    l2
        λ by itself. Without either there is no penalty.
    parameters
        As for `Objective` (default: ``"adapters"`` where the model has some).
    forward
        As for `Objective` (default: ``"own"`` for adapters on a base of 16 bits, which then stays as it is).
    weights, ids, class_names, batch_size, num_workers, budget, validate
        As for `Objective`; class names are by default the configuration's.

    Returns
    -------
    Objective
        Queries are rows or texts as the training data are. Its ``notes`` say how the training was read.

    Raises
    ------
    InputError
        If the tokenizer or a token is of another vocabulary, texts are empty after tokenisation, no label counts,
        examples can't be padded, masks are drawn anew at each reading, or an argument isn't as said.
    """
    whole, model = model, unwrapped(model)
    refuse_no_model(model)
    found = tasks.task_of(model, task)
    scalars.text("text", text)
    scalars.whole("num_workers", num_workers, 0)
    if max_length is not None:
        scalars.whole("max_length", max_length)
    refuse_other_tokenizer(model, tokenizer)
    settings: dict[str, Any] = {"task": found, "text": text, "max_length": max_length}
    examples = read_examples(model, dataset, tokenizer, collate=collate, num_workers=num_workers, **settings)
    return objective_of(
        model,
        examples,
        tasks.loss_of(found, examples.collation.kind, label_smoothing, class_weights) if loss is None else loss,
        optimizer=optimizer,
        l2=unprefixed(l2, whole),
        parameters=unprefixed(parameters, whole),
        forward=forward,
        class_names=class_names,
        weights=examples.weights if weights is None else weights,
        batch_size=examples.batch_size if batch_size is None else batch_size,
        ids=ids,
        num_workers=num_workers,
        budget=budget,
        validate=validate,
    )


def objective_of(
    model: nn.Module,
    examples: Examples,
    loss: Any,
    *,
    count: Callable[[Batch], float] | None = None,
    times: int = 1,
    optimizer: Any,
    l2: float | Mapping[str, float] | None,
    parameters: Any,
    forward: Forward | None,
    class_names: Sequence[str] | None,
    **others: Any,
) -> Objective:
    """The objective of examples that were read: its loss averaged, its tokens looked at, its penalty told."""
    task, data, n = examples.collation.task, examples.data, len(examples.data)
    loss = tasks.shifted(loss, task)
    looked = Looked(data, vocabulary(model), loss if isinstance(loss, CrossEntropy) else None)
    averaged, total = tasks.averaged(loss, looked, n, count)
    if total is None:
        looked.through()
    examples = examples.padded_to(looked.lengths)
    theta = learnt(model, parameters, l2, optimizer, times)
    notes = (
        said_of_loss(averaged, total, n),
        *theta.notes,
        *said_of_rows(examples.columns, looked.unlabelled),
        *examples.notes,
    )
    with evaluated(model):
        return Objective(
            model,
            averaged,
            examples.data,
            l2=theta.l2,
            parameters=theta.parameters,
            class_names=tasks.class_names(model, task, examples.collation.kind) if class_names is None else class_names,
            collate=examples.collation,
            forward=forward or ("own" if theta.is_adapted and half_of(model) is not None else "float32"),
            columns=examples.columns,
            notes=notes,
            **others,
        )
