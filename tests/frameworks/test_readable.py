"""Pieces of text: together they are what the tokenizer says of all tokens."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from languages import tokenizer
from upweight.frameworks.readable import UNKNOWN, pieces


def by_bytes() -> Any:
    """A tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return wrapped(made)


def wrapped(made: Tokenizer) -> Any:
    import transformers

    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def test_a_character_of_several_tokens_comes_with_its_last() -> None:
    made = by_bytes()
    ids = made("né !")["input_ids"]
    assert pieces(made, ids) == ["n", "", "é", " ", "!"]


def test_parts_of_a_word_stand_together() -> None:
    made = Tokenizer(models.WordPiece({"play": 0, "##ing": 1, "now": 2, "[UNK]": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    assert pieces(wrapped(made), [0, 1, 2]) == ["play", "ing", " now"]


def test_special_tokens_are_shown_and_what_has_no_number_is_a_mark() -> None:
    assert pieces(tokenizer(), [3, 1, -2, 4]) == ["a", " <eos>", UNKNOWN, " b"]


@pytest.mark.parametrize("said", [["one", "two", "one two"], ["x", "yx", "zyx"]])
def test_a_tokenizer_that_rewrites_what_it_said_still_gives_a_piece_for_each_token(said: list[str]) -> None:
    class Rewriting:
        def decode(self, ids: list[int], **options: Any) -> str:
            return said[len(ids) - 1]

    assert len(pieces(Rewriting(), [0, 1, 2])) == 3
