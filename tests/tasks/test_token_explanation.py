"""Explanations by token: sums are the examples' scores, words are the data's, and pages show both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from languages import TEXTS, WORDS, bert, llama, rows, tokenizer
from upweight.errors import InputError
from upweight.report import Report

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
WRITTEN = [text.split() for text in TEXTS]
INVERSE = uw.inverse.EKFAC(damping=0.1)


class Plain(nn.Module):
    """A loop of one's own: attention by hand, so that tokens meet."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.head = nn.Embedding(len(WORDS), 4), nn.Linear(4, 4), nn.Linear(4, len(WORDS))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        weights = (self.mix(x) @ x.transpose(1, 2)).masked_fill(later, -torch.inf).softmax(-1)
        return self.head(torch.tanh(weights @ x))


def encoded(texts: list[list[str]]) -> dict[str, Tensor]:
    longest = max(map(len, texts))
    ids = torch.tensor([[WORDS.index(word) for word in text] + [0] * (longest - len(text)) for text in texts])
    return {"input_ids": ids, "labels": torch.where(ids == 0, -100, ids)}


def plain(**budget: Any) -> uw.Objective:
    torch.manual_seed(0)
    given = {"budget": uw.Budget(**budget)} if budget else {}
    return uw.Objective(Plain().double(), uw.losses.CausalLM(), encoded(WRITTEN), l2=0.1, **given)


def asked(**options: Any) -> dict[str, Any]:
    return {"queries": encoded(WRITTEN[:2]), "tokens": WRITTEN, "query_tokens": WRITTEN[:2], "k": 2, **options}


def test_tokens_sum_to_the_examples_and_read_as_they_do() -> None:
    influence = uw.Influence(plain(), INVERSE)
    found = uw.tasks.explain(influence, **asked())
    assert len(found.tokens) == 2
    whole = influence.attribute(encoded(WRITTEN[:2])).scores
    for row, explained in enumerate(found.tokens):
        assert "".join(explained.tokens) == TEXTS[row]
        positions = [*found.helpful.positions[row].tolist(), *found.harmful.positions[row].tolist()]
        assert [each.position for each in explained.examples] == positions
        for each in explained.examples:
            assert "".join(each.tokens) == TEXTS[each.position]
            assert each.scores.shape == (len(WRITTEN[row]), len(WRITTEN[each.position]))
            assert each.by_token.sum() == pytest.approx(float(whole[row, each.position]), rel=1e-9)
            assert each.sequence == pytest.approx(float(whole[row, each.position]), rel=1e-9)
        total = sum(each.scores.sum(1) for each in explained.examples)
        np.testing.assert_allclose(explained.query_scores, total)


def test_what_is_too_large_to_be_linked_is_coloured_on_each_side() -> None:
    linked = uw.tasks.explain(uw.Influence(plain(), INVERSE), **asked())
    apart = uw.tasks.explain(uw.Influence(plain(queries=8), INVERSE), **asked())
    for one, other in zip(linked.tokens, apart.tokens, strict=True):
        np.testing.assert_allclose(other.query_scores, one.query_scores, rtol=1e-9, atol=1e-15)
        assert other.tokens == one.tokens
        for each, again in zip(one.examples, other.examples, strict=True):
            assert again.scores.ndim == 1
            np.testing.assert_allclose(again.scores, each.by_token, rtol=1e-9, atol=1e-15)
        assert one.block().linked
        assert not other.block().linked
        assert [token.shares for token in other.block().query] == [
            pytest.approx(token.shares) for token in one.block().query
        ]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_tokenizer_says_what_tokens_read_on_whatever_side_they_are_padded(side: str) -> None:
    data = rows().remove_columns("number").add_column("id", [f"page {k}" for k in range(len(TEXTS))])
    objective = uw.from_transformers(llama(), data, tokenizer(padding_side=side))
    found = uw.tasks.explain(uw.Influence(objective, INVERSE), ["a b c d", "k j"], k=2, tokens=True)
    for text, explained in zip(["a b c d", "k j"], found.tokens, strict=True):
        assert "".join(explained.tokens).split() == text.split()
        for each in explained.examples:
            assert "".join(each.tokens).split() == TEXTS[each.position].split()
            assert each.by_token.sum() == pytest.approx(each.sequence, rel=1e-4)
    table = found.to_pandas()
    assert table["text"].tolist() == [TEXTS[place] for place in table["position"]]
    assert table["id (column)"].tolist() == [f"page {place}" for place in table["position"]]
    html = found.page("Which texts?").html()
    assert "<title>Which texts?</title>" in html
    assert html.count('class="all"') == 2
    assert "id: page 0" in html
    assert "text: a b c d" not in html  # what the coloured text says isn't said again
    assert "a b c d" in repr(found)


def marked(texts: list[str] = TEXTS, **more: list[int]) -> list[dict[str, Any]]:
    """Rows of ``<eos> text <eos>``, as of BERT's tokenizers."""
    ids = [[1, *tokenizer()(text)["input_ids"], 1] for text in texts]
    made = [
        {"text": text, "input_ids": row, "attention_mask": [1] * len(row)} for text, row in zip(texts, ids, strict=True)
    ]
    return [{**row, **{name: values[k] for name, values in more.items()}} for k, row in enumerate(made)]


def classified() -> uw.Objective:
    model = bert(num_hidden_layers=2, initializer_range=0.5)
    labelled = marked(label=[0, 1, 2, 0, 1, 2, 0, 1])
    return uw.from_transformers(model, labelled, tokenizer(), class_names=["no", "yes", "so"])


@pytest.mark.parametrize("budget", [{}, {"queries": 8}])
def test_special_tokens_are_told_in_the_caption_and_not_shown(budget: dict[str, Any]) -> None:
    objective = classified().replace(budget=uw.Budget(**budget)) if budget else classified()
    influence, query = uw.Influence(objective, INVERSE), marked(["a b c"], label=[1])
    found = uw.tasks.explain(influence, query, k=2, tokens=True)
    (explained,) = found.tokens
    assert "".join(explained.tokens) == "a b c"
    by_train = influence.attribute(query, by="train-token")
    by_query = influence.attribute(query, by="query-token")
    html, total = found.page().html(), np.zeros(3)
    for each, example in zip(explained.examples, explained.block().examples, strict=True):
        assert "".join(each.tokens) == TEXTS[each.position]
        parts, of_query = by_train.of(0, each.position), by_query.of(0, each.position).query_tokens
        assert parts.train is not None
        assert of_query is not None
        last = len(each.tokens) + 1
        special = float(parts.train[[0, last]].sum())
        np.testing.assert_allclose(each.by_token, parts.train[1:last], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(each.by_query_token, of_query[1:4], rtol=1e-3, atol=1e-6)
        total += of_query[1:4].double().numpy()
        assert each.special == pytest.approx(special, rel=1e-3, abs=1e-6)
        assert each.special + each.by_token.sum() + each.remainder == pytest.approx(each.sequence, rel=1e-4)
        assert abs(each.special) > 0.05 * abs(each.sequence)  # most of the classifier's score is not the words'
        assert f"of which {each.special:+.3g} at special tokens" in example.caption
        assert f"of which {each.special:+.3g} at special tokens" in html
    np.testing.assert_allclose(explained.query_scores, total, rtol=1e-3, atol=1e-6)
    texts = explained.block().texts  # colours are of the whole query, what stands at its special tokens too
    assert texts[0][1][0].said == f"{explained.examples[0].by_token[0]:+.3g}"


def test_a_page_says_label_and_prediction_of_a_classification() -> None:
    objective = classified()
    query = marked(["a b c"], label=[1])
    found = uw.tasks.explain(uw.Influence(objective, INVERSE), query, k=1, tokens=True)
    likely = objective.outputs(objective.queries(query)).softmax(1)
    said = ["no", "yes", "so"][int(likely.argmax())]
    line = f"Labelled yes; the model says {said} (p = {float(likely.max()):.3f})."
    assert found.predicted == (line,)
    assert line in found.page().html()
    labels = [["no", "yes", "so"][k] for k in (0, 1, 2, 0, 1, 2, 0, 1)]
    table = found.to_pandas()
    assert table["label"].tolist() == [labels[place] for place in table["position"]]
    assert f"label: {table['label'][0]}" in found.page().html()


def test_what_is_no_classification_has_no_labels() -> None:
    found = uw.tasks.explain(uw.Influence(plain(), INVERSE), encoded(WRITTEN[:1]), k=1)
    assert found.predicted == ()
    assert "label" not in found.to_pandas()


def test_words_after_a_special_token_begin_with_a_space() -> None:
    pair = {**marked(["a b"])[0], "input_ids": [1, 3, 1, 4, 2, 1], "attention_mask": [1] * 6}
    objective = uw.from_transformers(llama(), marked(), tokenizer())
    found = uw.tasks.explain(uw.Influence(objective, INVERSE), [pair], k=1, tokens=True)
    assert "".join(found.tokens[0].tokens) == "a b <unk> "  # an unknown word is one of the text's


def test_pages_need_no_tokens() -> None:
    found = uw.tasks.explain(uw.Influence(plain(), INVERSE), encoded(WRITTEN[:1]), k=2)
    assert found.tokens == ()
    assert isinstance(found.page(), Report)
    assert 'class="token"' not in found.page().html()


def test_captions_are_one_for_each() -> None:
    explained = uw.tasks.explain(uw.Influence(plain(), INVERSE), **asked()).tokens[0]
    assert "first" in Report("t").section("s", explained.block(["first", "b", "c", "d"])).html()
    with pytest.raises(InputError, match="captions: got 1; give one for each of the 4 examples"):
        explained.block(["first"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": True, "query_tokens": None}, "tokens: the objective knows no tokenizer; give the tokens"),
        ({"query_tokens": None}, "query_tokens: go with tokens="),
        ({"tokens": False}, "query_tokens: go with tokens="),
        ({"tokens": WRITTEN[1:]}, "tokens: .* give the tokens of each of 8 examples"),
        ({"tokens": "abc"}, "tokens: .* give the tokens of each of 8 examples"),
        ({"tokens": [["a"]] * 8}, "which has .* places; give one text for each token"),
        ({"query_tokens": [["a"] * 9] * 2}, "query_tokens: .* for query example 0"),
        ({"leverage_corrected": True}, "tokens: leverage isn't divided out"),
    ],
)
def test_what_cannot_be_read_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        uw.tasks.explain(uw.Influence(plain(), INVERSE), **asked(**options))


def test_models_without_tokens_are_refused() -> None:
    objective = uw.Objective(nn.Linear(3, 2), uw.losses.CrossEntropy(), (torch.randn(9, 3), torch.arange(9) % 2), l2=1)
    with pytest.raises(InputError, match="token"):
        uw.tasks.explain(objective, (torch.randn(2, 3), [0, 1]), tokens=[["a"]] * 9, query_tokens=[["a"]] * 2)
