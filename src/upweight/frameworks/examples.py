"""Training examples of a model of transformers: rows, texts, arrays or a loader, read as batches of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from upweight import scalars
from upweight.data import Batch, Data, MapData, as_data, loaded
from upweight.errors import InputError
from upweight.frameworks.collation import LABELS, Collation, taken
from upweight.frameworks.shown import Rows, columns_of
from upweight.frameworks.tasks import base_model, problem_type


@dataclass(frozen=True)
class Examples:
    """Training examples and all that came with them.

    Attributes
    ----------
    data, collation
        The examples, and what makes batches of them.
    columns
        What of them is shown.
    weights, batch_size, num_workers
        Those of a loader.
    notes
        What of a loader is left aside.
    """

    data: Data
    collation: Collation
    columns: dict[str, Any]
    weights: Tensor | None = None
    batch_size: int | None = None
    num_workers: int = 0
    notes: tuple[str, ...] = ()

    def padded_to(self, lengths: Mapping[str, int]) -> Examples:
        """The same with batches of one length, in which outputs of an example always have the same shape."""
        if not isinstance(self.data, MapData):
            return self
        collation = replace(self.collation, lengths=dict(lengths))
        return replace(self, data=replace(self.data, collate=collation), collation=collation)


def read_examples(
    model: nn.Module,
    dataset: Any,
    tokenizer: Any,
    *,
    task: str,
    text: str,
    max_length: int | None,
    collate: Callable[[list[Any]], Batch] | None,
    num_workers: int = 0,
    every_column: bool = False,
) -> Examples:
    """Read a dataset; its tokens and labels aren't looked at yet.

    Parameters
    ----------
    every_column
        Whether ``collate`` is given columns that the model doesn't take, too.

    Raises
    ------
    InputError
        If it is no dataset with positions, or a collator masks tokens at random.
    """
    if isinstance(dataset, DataLoader):
        read = loaded(dataset, "dataset")
        collate, workers = collate or read.collate, num_workers or read.num_workers
        inner = read_examples(
            *(model, read.dataset, tokenizer),
            task=task,
            text=text,
            max_length=max_length,
            collate=collate,
            num_workers=workers,
            every_column=every_column,
        )
        return replace(inner, weights=read.weights, batch_size=read.batch_size, num_workers=workers, notes=read.notes)
    _refuse_random_masks(collate)
    config, accepted = getattr(base_model(model), "config", None), None if every_column else taken(model)
    pad = getattr(tokenizer, "pad_token_id", None)
    collation = Collation(
        *(task, accepted, tokenizer, text, max_length, collate),
        pad=getattr(config, "pad_token_id", None) if pad is None else pad,
        start=getattr(config, "decoder_start_token_id", None),
    )
    if isinstance(dataset, Mapping):
        return _arrays(model, dataset, collation)
    if (
        isinstance(dataset, str | bytes | Tensor)
        or not hasattr(dataset, "__getitem__")
        or not hasattr(dataset, "__len__")
    ):
        kind = "streams have no positions; give list(dataset)" if isinstance(dataset, IterableDataset) else ""
        raise InputError(
            f"dataset: give rows by name (a Hugging Face dataset, a list of dicts), texts or a DataLoader; got "
            f"{scalars.shown(dataset)}{kind and f' ({kind})'}"
        )
    if not len(dataset):
        raise InputError("dataset: it is empty (0 examples)")
    rows: Any = dataset if isinstance(dataset, list) else Rows(dataset)
    columns = columns_of(dataset, accepted, tokenizer, text)
    collation = replace(collation, kind=problem_type(model, collation.labels(rows[0])))
    return Examples(as_data(rows, name="dataset", collate=collation, num_workers=num_workers), collation, columns)


def _arrays(model: nn.Module, arrays: Mapping[str, Any], collation: Collation) -> Examples:
    """Arrays by name, with padding already; texts among them are shown."""
    accepted = collation.columns
    kept = {key: value for key, value in arrays.items() if accepted is None or key in accepted}
    columns = {key: value for key, value in arrays.items() if key not in kept and isinstance(value, Sequence)}
    if not kept:
        raise InputError(f"dataset: none of {list(arrays)} is an argument of the model's forward; give input_ids, …")
    labels = next((kept[name] for name in LABELS if name in kept), None)
    read = as_data(kept, name="dataset")
    typed = replace(collation, kind=problem_type(model, labels if isinstance(labels, Tensor) else None))
    named = typed.labelled(dict(read.take(range(len(read)))))
    return Examples(as_data(named, name="dataset"), typed, columns)


def _refuse_random_masks(collate: Any) -> None:
    if getattr(collate, "mlm", False):
        raise InputError(
            f"collate: {type(collate).__name__}(mlm=True) draws other masks at each reading, so that an example's loss "
            "is random; give rows that were masked once, with their labels"
        )
