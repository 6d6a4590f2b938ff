"""Tokens of queries and of their evidence, scored when a store is made and kept in it: to open it runs no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from upweight.errors import InputError
from upweight.explore.evidence import evidence
from upweight.influence import Influence
from upweight.progress import track
from upweight.store.tensors import pack, unpack
from upweight.stored import Stored
from upweight.tasks.token_explanation import ExplainingExample, TokenExplanation, by_token, has_tokenizer

QUERIES = 100
"""That are coloured: those that a list begins with."""
PAIRS = 2**16
"""Numbers of a query up to which shares are kept by its own tokens too; beyond, for all of them together."""
PLAIN = b""
"""In place of a query that isn't coloured."""


@dataclass(frozen=True, eq=False)
class Readable:
    """How tokens are to be read and scored.

    Attributes
    ----------
    influence
        That made the store's scores.
    tokens, query_tokens
        Texts of each example's tokens, where no tokenizer is to be asked.
    quantity, measurement
        Of the store.
    whole
        Whether tokens' scores add up to the store's: leverage is not divided out of them.
    wanted
        True: what can't be done is refused; None: it is said; False: nothing is scored.
    """

    influence: Influence
    tokens: Sequence[Sequence[str]] | None = None
    query_tokens: Sequence[Sequence[str]] | None = None
    quantity: Literal["removal", "upweight"] = "removal"
    measurement: Any = None
    whole: bool = True
    wanted: bool | None = None

    @property
    def is_known(self) -> bool:
        """Whether something says what tokens read."""
        return self.tokens is not None or has_tokenizer(self.influence.objective)

    def asks_of(self, stored: Stored) -> bool:
        """Whether tokens of a store's queries are to be scored."""
        return self.wanted is not False and len(stored.shape) > 1 and bool(self.is_known or self.wanted)


def coloured(
    stored: Stored, queries: Any, order: np.ndarray, read: Readable, lost: Callable[[str], None]
) -> list[bytes] | None:
    """Of each query its tokens with those of its evidence, as bytes; None where none are.

    Parameters
    ----------
    order
        Queries in the order of a list; the first `QUERIES` of them are done.
    lost
        Is told what isn't coloured, and why.

    Raises
    ------
    InputError
        If tokens are asked for, and can't be scored.
    """
    if not read.asks_of(stored):
        return None
    data = read.influence.objective.queries(queries)
    found, chosen = [PLAIN] * len(data), order[:QUERIES].tolist()
    try:
        if not read.whole:
            raise InputError("leverage isn't divided out of their scores")
        for row in track(chosen, "tokens", len(chosen)):
            positions = [each.position for each in evidence(stored, row)]
            one = by_token(
                read.influence,
                data.take([row]),
                positions,
                query_id=str(stored.query_ids[row]),
                quantity=read.quantity,
                measurement=read.measurement,
                tokens=read.tokens,
                query_tokens=None if read.query_tokens is None else read.query_tokens[row],
            )
            found[row] = to_bytes(one)
    except InputError as error:
        if read.wanted:
            raise
        lost(f"texts are not coloured: {error}")
        return None
    if len(chosen) < len(data):
        lost(f"texts are coloured for the first {len(chosen):,} of {len(data):,} queries, the wrong ones first")
    return found


def to_bytes(found: TokenExplanation) -> bytes:
    """What is shown of an explanation by token."""
    count = sum(each.scores.size for each in found.examples)
    tensors = {"query": _tensor(found.query_scores)}
    examples = []
    for number, each in enumerate(found.examples):
        linked = each.scores.ndim == 2 and count <= PAIRS
        tensors |= {f"scores-{number}": _tensor(each.scores if linked else each.by_token)}
        tensors |= {f"whole-{number}": _tensor(each.by_token), f"query-{number}": _tensor(each.by_query_token)}
        parts = {"sequence": each.sequence, "special": each.special, "remainder": each.remainder}
        examples.append({"position": each.position, "id": str(each.id), "tokens": list(each.tokens), **parts})
    said = {"query": str(found.query_id), "tokens": list(found.tokens), "sign": found.helpful_sign}
    return pack(tensors, {**said, "examples": examples, "rest": dict(found.remainder)})


def of_bytes(content: bytes) -> TokenExplanation:
    """What `to_bytes` kept.

    Raises
    ------
    InputError
        If it is none.
    """
    tensors, said = unpack(content)
    held = {name: value.double().numpy() for name, value in tensors.items()}
    examples = tuple(
        ExplainingExample(
            each["position"], each["id"], each["sequence"], tuple(each["tokens"]), held[f"scores-{number}"],
            held[f"whole-{number}"], held[f"query-{number}"], each["special"], each["remainder"],
        )
        for number, each in enumerate(said["examples"])
    )  # fmt: skip
    return TokenExplanation(said["query"], tuple(said["tokens"]), held["query"], examples, said["sign"], said["rest"])


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32)
