"""Words and sentences as spans of tokens, by a tokenizer's offsets."""

import pytest

from upweight import spans
from upweight.errors import InputError
from upweight.spans import Span

TEXT = "Wet cats sleep. Do they? Yes"
OFFSETS = [(0, 0), (0, 3), (3, 6), (6, 8), (8, 14), (14, 15), (15, 18), (19, 24), (25, 28), (0, 0)]


def test_words_are_whole_however_they_are_cut() -> None:
    assert spans.words(TEXT, OFFSETS) == [
        Span(1, 2, "Wet"),
        Span(2, 4, "cats"),
        Span(4, 6, "sleep."),
        Span(6, 7, "Do"),
        Span(7, 8, "they?"),
        Span(8, 9, "Yes"),
    ]


def test_sentences_end_where_they_say_so() -> None:
    assert spans.sentences(TEXT, OFFSETS) == [
        Span(1, 6, "Wet cats sleep."),
        Span(6, 8, "Do they?"),
        Span(8, 9, "Yes"),
    ]


def test_pieces_without_tokens_are_left_out() -> None:
    assert spans.pieces([(0, 3), (50, 60)], OFFSETS, TEXT) == [Span(1, 2, "Wet")]


def test_what_is_no_span_is_refused() -> None:
    with pytest.raises(InputError, match=r"offsets: give \(first, last \+ 1\) characters of each token; got 3"):
        spans.words("a", [3])
    with pytest.raises(InputError, match=r"train: spans \[0:2\] and \[1:3\] overlap"):
        spans.as_spans("train", [(1, 3), (0, 2)])
    with pytest.raises(InputError, match="train: give spans or pairs"):
        spans.as_spans("train", [1])
    with pytest.raises(InputError, match="offsets: tokens of other pieces stand between"):
        spans.pieces([(0, 1), (1, 2)], [(0, 1), (1, 2), (0, 1)])
