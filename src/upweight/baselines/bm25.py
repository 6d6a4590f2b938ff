"""BM25: training texts that share rare words with a query, which no model is needed for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from upweight import kinds, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.optional import imported
from upweight.quantities import meanings

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text in small letters."""
    return WORD.findall(text.lower())


def bm25(
    texts: Sequence[str],
    queries: Sequence[str],
    *,
    k1: float = 1.5,
    b: float = 0.75,
    tokenize: Callable[[str], list[str]] = words,
    ids: Sequence[Any] | None = None,
) -> Attribution:
    """Okapi BM25 of training texts for each query, ``[queries, train]`` (Robertson et al. 1994; Lucene's form).

    The baseline that attribution of texts must beat: it knows which words are shared, and neither their order nor the
    model.

    Parameters
    ----------
    texts, queries
        The training examples and the queries as text. What a query's loss is of belongs to its text (the answer too).
    k1, b
        How soon repeated words count no more, and how far long texts count less.
    tokenize
        A text's words (default: letters and digits, in small letters).
    ids
        Names of the texts (default: positions).

    Raises
    ------
    InputError
        If there are no texts, no queries, or something isn't text.
    MissingExtraError
        If bm25s isn't installed: ``pip install 'upweight[text]'``.
    """
    kinds.check(bm25, locals())
    documents, asked = _texts("texts", texts), _texts("queries", queries)
    scalars.number("k1", k1, least=0)
    scalars.number("b", b, least=0, most=1)
    names = np.arange(len(documents)) if ids is None else np.asarray(ids)
    if names.shape != (len(documents),):
        raise InputError(f"ids: need {len(documents)}, one for each text; got shape {names.shape}")
    with imported("text", "similarity.bm25"):
        import bm25s
    index = bm25s.BM25(k1=k1, b=b)
    corpus = [tokenize(text) for text in documents]
    known = {word for text in corpus for word in text}
    if not known:
        raise InputError(f"texts: none of {len(documents)} has a word")
    index.index(corpus, show_progress=False)
    rows = [[word for word in tokenize(text) if word in known] for text in asked]
    scores = np.stack([index.get_scores(row) if row else np.zeros(len(documents), np.float32) for row in rows])
    meaning = meanings.similarity("BM25", "BM25 score of the text for the query's words", "sum of word weights")
    return Attribution(torch.from_numpy(scores), meaning, names, np.arange(len(asked)))


def _texts(name: str, given: Sequence[str]) -> list[str]:
    found = list(given)
    if not found or not all(isinstance(text, str) for text in found):
        raise InputError(f"{name}: give a list of one or more texts; got {scalars.shown(given)}")
    return found
