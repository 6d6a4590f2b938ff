"""BM25 by its formula, word by word."""

import math

import pytest
import torch

import upweight as uw
from upweight.errors import InputError

TEXTS = ["the cat sat", "the dog sat on the mat", "a bird", "The Cat and the cat's cat"]


def by_hand(words: list[str], k1: float, b: float) -> list[float]:
    documents = [text.lower().replace("'", " ").split() for text in TEXTS]
    mean, found = sum(map(len, documents)) / len(documents), []
    for document in documents:
        total = 0.0
        for word in words:
            holding = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            count = document.count(word)
            total += idf * count / (count + k1 * (1 - b + b * len(document) / mean))
        found.append(total)
    return found


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (1.2, 0.0)])
def test_scores_are_those_of_the_formula(k1: float, b: float) -> None:
    found = uw.similarity.bm25(TEXTS, ["Cat on the mat", "bird"], k1=k1, b=b)
    expected = [by_hand(["cat", "on", "the", "mat"], k1, b), by_hand(["bird"], k1, b)]
    torch.testing.assert_close(found.scores, torch.tensor(expected))
    assert found.quantity.helpful_sign == 1
    assert found.top(1).positions[1].tolist() == [2]


def test_words_that_no_text_has_say_nothing() -> None:
    found = uw.similarity.bm25(TEXTS, ["zebra", "", "cat zebra"], ids=list("abcd"))
    assert found.ids.tolist() == ["a", "b", "c", "d"]
    assert not found.scores[:2].any()
    assert torch.equal(found.scores[2], uw.similarity.bm25(TEXTS, ["cat"]).scores[0])


def test_a_tokenizer_of_ones_own() -> None:
    found = uw.similarity.bm25(TEXTS, ["Cat"], tokenize=str.split)
    assert (found.scores[0] > 0).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"texts": []}, "texts: give a list of one or more texts"),
        ({"texts": ["!"]}, "texts: none of 1 has a word"),
        ({"queries": []}, "queries: give a list"),
        ({"k1": -1.0}, "k1"),
        ({"b": 2.0}, "b: "),
        ({"ids": [1]}, "ids: need 4"),
    ],
)
def test_refuses(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        uw.similarity.bm25(**{"texts": TEXTS, "queries": ["cat"], **options})
