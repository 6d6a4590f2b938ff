"""Pieces of text by token, of the three kinds of tokenizers that there are: read together they are the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import languages
from upweight.errors import InputError
from upweight.frameworks.pieces import marks, pieces

transformers = languages.transformers
TEXTS = ["the weather is fine today", "whether the fine weathers stay", "überall Wetter, stets"]


def byte_level() -> Any:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    return made


def word_pieces() -> Any:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(cleanup=False)
    made.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=45, special_tokens=["[UNK]"]))
    return made


def metaspace() -> Any:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=40, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"])
    )
    return made


@pytest.mark.parametrize("kind", [byte_level, word_pieces, metaspace])
def test_pieces_read_together_are_the_text(kind: Callable[[], Any]) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=kind())
    for text in (*TEXTS[:2], "yet the fists feather"):
        numbers = tokenizer(text)["input_ids"]
        found = pieces(tokenizer, numbers)
        assert len(found) == len(numbers)
        assert "".join(found).strip() == text
        assert any(piece.startswith(" ") for piece in found)
    assert any(not piece.startswith(" ") for piece in found[1:])  # of words that weren't learnt


def test_special_tokens_stand_by_themselves() -> None:
    tokenizer = languages.tokenizer()
    assert pieces(tokenizer, [1, 3, 4, 0]) == ["<eos> ", "a", " b", " <pad> "]


def test_what_only_decodes_is_asked_token_by_token() -> None:
    class Letters:
        def decode(self, numbers: list[int]) -> str:
            return "".join(chr(number) for number in numbers)

    assert pieces(Letters(), [72, 105]) == ["H", "i"]


def test_a_character_of_several_tokens_comes_with_its_last() -> None:
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(alphabet, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made)
    numbers = tokenizer("né ü! 東")["input_ids"]
    assert pieces(tokenizer, numbers) == ["n", "", "é", " ", "", "ü", "!", " ", "", "", "東"]
    assert pieces(tokenizer, numbers[:2]) == ["n", ""]  # cut off within a character

    class Decoding:
        decode = tokenizer.decode

    assert pieces(Decoding(), numbers) == pieces(tokenizer, numbers)


def test_marks_are_special_tokens_but_those_in_place_of_a_word() -> None:
    assert marks(languages.tokenizer(mask_token="k")) == {0, 1}
    assert marks(transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level())) == set()
    assert marks(object()) == set()


def test_a_tokenizer_that_rewrites_what_it_said_still_gives_a_text_for_each_token() -> None:
    class Rewriting:
        def decode(self, numbers: list[int]) -> str:
            return "".join("abc"[number] for number in reversed(numbers))

    assert pieces(Rewriting(), [0, 1, 2]) == ["a", "b", "c"]


def test_tokens_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="tokenizer: it has no token 99, so it isn't the one that made these"):
        pieces(languages.tokenizer(), [3, 99])
