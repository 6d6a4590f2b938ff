"""What is shown of examples in tables: columns that the model doesn't take, and texts decoded where none are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upweight.data import ArrayData, MapData
from upweight.frameworks.collation import IGNORED, TEXT, Collation
from upweight.objective import Objective


@dataclass(frozen=True)
class Field(Sequence[Any]):
    """One entry of every row of a dataset, read when it is asked for."""

    dataset: Any
    name: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Any) -> Any:
        return self.dataset[int(place)][self.name]


@dataclass(frozen=True)
class Decoded(Sequence[str]):
    """Texts of a dataset of tokens, decoded when they are asked for."""

    dataset: Any
    tokenizer: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Any) -> Any:
        ids = np.asarray(self.dataset[int(place)]["input_ids"]).tolist()
        kept = [token for token in ids if token != IGNORED]
        return self.tokenizer.decode(kept, skip_special_tokens=True)


@dataclass(frozen=True)
class Rows:
    """A dataset of rows as it yields them, whatever format it may be asked for."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> Any:
        return self.dataset[place]

    def __getitems__(self, places: list[int]) -> list[Any]:
        several = getattr(self.dataset, "__getitems__", None)
        return list(several(places)) if callable(several) else [self.dataset[place] for place in places]


def columns_like(objective: Objective, examples: Any) -> dict[str, Sequence[Any]]:
    """What is shown of other examples, as ``objective.columns`` is of the training data; nothing of plain arrays."""
    collation = objective.problem.collate
    dataset = examples.dataset if isinstance(examples, MapData) else examples
    if not isinstance(collation, Collation) or isinstance(dataset, ArrayData | Mapping):
        return {}
    rows = dataset.dataset if isinstance(dataset, Rows) else dataset
    return columns_of(rows, collation.columns, collation.tokenizer, collation.text)


def columns_of(dataset: Any, taken: tuple[str, ...] | None, tokenizer: Any, text: str) -> dict[str, Sequence[Any]]:
    """Columns to be shown, by name: those that aren't the model's, else the text that its tokens say."""
    first = dataset[0] if len(dataset) else None
    if isinstance(first, str):
        return {text: dataset}
    if not isinstance(first, Mapping):
        return {}
    names = [name for name in first if taken is None or name not in taken]
    found: dict[str, Sequence[Any]] = {}
    plain = dataset.with_format(None) if hasattr(dataset, "with_format") else None
    for name in names:
        if isinstance(first[name], str | int | float | bool | np.number):
            found[name] = Field(dataset, name) if plain is None else plain[name]
    is_text = any(isinstance(first[name], str) for name in found)
    if not is_text and text not in found and "input_ids" in first and hasattr(tokenizer, "decode"):
        found[text] = Decoded(dataset, tokenizer)
    return found


def one_text(columns: Mapping[str, Sequence[Any]]) -> list[str] | None:
    """The texts of the one column that holds some; None where none does, or several and none is called ``text``."""
    texts = [name for name, values in columns.items() if len(values) and isinstance(values[0], str)]
    name = TEXT if TEXT in texts else texts[0] if len(texts) == 1 else None
    return None if name is None else [str(text) for text in columns[name]]
