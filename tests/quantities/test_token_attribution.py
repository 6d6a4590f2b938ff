"""Scores by token sum to those of sequences, whatever the inverse, and rank and group as they are."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import upweight as uw
from problems import close
from upweight.errors import InputError
from upweight.quantities.token_attribution import TokenAttribution
from zoo.padded import FAMILIES

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore::upweight.SlowPathWarning"),
]
BY = ("train-token", "query-token", "token")
INVERSES: dict[str, Any] = {
    "EKFAC": uw.inverse.EKFAC(damping=0.1),
    "KFAC": uw.inverse.KFAC(damping=0.1),
    "Dual": uw.inverse.Dual(damping=0.1),
    "CG": uw.inverse.CG(uw.curvature.GGN(), damping=1.0),
    "Identity": uw.inverse.Identity(),
}


@cache
def objective(family: str, dtype: torch.dtype) -> tuple[uw.Objective, Any]:
    data = FAMILIES[family].data("right", 1)
    return FAMILIES[family].objective(dtype, data, attn_implementation="sdpa"), data


@cache
def attributed(family: str, dtype: torch.dtype, inverse: str, by: Any) -> TokenAttribution:
    made, data = objective(family, dtype)
    return uw.Influence(made, INVERSES[inverse]).attribute(data, by=by)


def off(found: TokenAttribution) -> float:
    """The greatest difference between sums and sequences."""
    worst, largest = 0.0, float(found.sequence.scores.abs().max())
    for scores in found.scores():
        for side in (scores.pairs,) if scores.pairs is not None else (scores.train, scores.query_tokens):
            if side is not None:
                worst = max(worst, abs(float(side.sum()) + scores.remainder - scores.sequence))
    return worst / largest


REPRESENTATIVES = ("GPT-2", "Mixtral", "T5")
"""Tied tables, experts, two sequences; the others' gradients by token are compared in `test_padding.py`."""
ARCHITECTURES = [
    pytest.param(family, marks=[] if family in REPRESENTATIVES else [pytest.mark.exhaustive]) for family in FAMILIES
]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_tokens_sum_to_their_sequence_in_every_architecture(family: str) -> None:
    assert off(attributed(family, torch.float32, "EKFAC", "train-token")) <= 1e-5
    assert off(attributed(family, torch.float32, "EKFAC", "token")) <= 1e-5
    if family in ("Mixtral", "T5"):
        assert off(attributed(family, torch.float64, "EKFAC", "token")) <= 1e-10


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("inverse", INVERSES)
def test_tokens_sum_to_their_sequence_by_every_inverse(inverse: str, by: str) -> None:
    found = attributed("GPT-2", torch.float64, inverse, by)
    assert off(found) <= (1e-8 if inverse == "CG" else 1e-10)
    assert not found.remainder


def without(name: str) -> bool:
    return "embed" not in name and "wte" not in name and "wpe" not in name and "shared" not in name


@pytest.mark.parametrize("family", ["GPT-2", "BERT", "Mixtral"])
def test_tokens_are_found_where_their_table_is_held(family: str) -> None:
    """A token's score is a sum over parameters: of all that of the tables taken away."""
    every, data = objective(family, torch.float64)
    tables = every.replace(parameters=lambda name, _: not without(name))
    rest = every.replace(parameters=lambda name, _: without(name))
    found = [uw.Influence(each, uw.inverse.Identity()).attribute(data, by="token") for each in (every, tables, rest)]
    both, first, second = (each.of(0, 1) for each in found)
    for side in ("train", "query_tokens", "pairs"):
        whole, one, two = (getattr(each, side) for each in (both, first, second))
        close(one + two, whole)
        assert float(two.abs().max()) > 0.1 * float(one.abs().max())
    assert off(found[-1]) <= 1e-10
    assert all(weights.grad is None for weights in every.model.parameters())


def test_both_sides_agree_and_padding_is_nothing() -> None:
    both, train, query = (attributed("Llama", torch.float64, "EKFAC", by).of(1, 4) for by in ("token", *BY[:2]))
    assert both.train is not None
    assert train.train is not None
    assert query.query_tokens is not None
    assert both.query_tokens is not None
    assert both.pairs is not None
    close(both.train, train.train)
    close(both.query_tokens, query.query_tokens)
    close(both.pairs.sum(0), both.train)
    assert not both.query_tokens[3:].any()
    assert not both.train[5:].any()


@pytest.mark.parametrize("within", [2, None])
def test_top_spans_are_those_of_the_scores_written_out(within: int | None) -> None:
    found = attributed("GPT-2", torch.float64, "EKFAC", "train-token")
    written = {(each.query, each.example): each.train for each in found.scores() if each.train is not None}
    for largest in (True, False):
        ranking = found.top(3, within=within) if largest else found.bottom(3, within=within)
        for query, hits in enumerate(ranking.hits):
            order = found.sequence.scores[query].argsort(descending=largest)[:within]
            every = [float(score) for example in order for score in written[query, int(example)]]
            assert [hit.score for hit in hits] == pytest.approx(sorted(every, reverse=largest)[:3])
            for hit in hits:
                assert hit.train is not None
                assert float(written[query, hit.example][hit.train.start]) == pytest.approx(hit.score)
    assert "query 0: " in repr(ranking)
    assert len(ranking.to_pandas()) == 18


def test_spans_are_sums_and_the_rest_a_remainder() -> None:
    found = attributed("GPT-2", torch.float64, "EKFAC", "token")
    plain = found.of(0, 4)
    spans = [[(0, 2), uw.spans.Span(3, 4, "word")]] * 6
    grouped = found.grouped(train=spans, query={0: [(1, 3)]}).of(0, 4)
    assert plain.pairs is not None
    assert grouped.pairs is not None
    assert grouped.train is not None
    expected = torch.stack([plain.pairs[1:3, :2].sum(), plain.pairs[1:3, 3].sum()])
    close(grouped.pairs, expected[None])
    assert float(grouped.pairs.sum()) + grouped.remainder == pytest.approx(grouped.sequence)
    assert "'word'" in repr(grouped)


def test_chosen_examples_ids_and_other_quantities() -> None:
    made, data = objective("GPT-2", torch.float64)
    influence = uw.Influence(made, INVERSES["Identity"])
    whole = influence.attribute(data, by="train-token", quantity="upweight", query_ids=list("abcdef"))
    some = influence.attribute(data, by="train-token", quantity="upweight", train=[4, 1])
    for column, example in enumerate((4, 1)):
        mine, its = some.of(2, column).train, whole.of(2, example).train
        assert mine is not None
        assert its is not None
        close(mine, its)
    assert whole.of(2, 0).query_id == "c"
    assert some.of(0, 1).id == made.ids[1]
    assert np.array_equal(some.sequence.ids, made.ids[[4, 1]])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": "token", "renormalize": True}, "renormalize: scores by token don't go with it"),
        ({"by": "token", "leverage_corrected": True}, "leverage_corrected: scores by token don't go with it"),
        ({"by": "token", "store": "folder"}, "store: scores by token don't go with it"),
        ({"by": "token", "fields": ["words"]}, r"by: no table is looked up by the batch's tokens \(words\)"),
        ({"fields": ["input_ids"]}, "fields: the keys that hold tokens go with by='token'"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], said: str) -> None:
    made, data = objective("GPT-2", torch.float64)
    with pytest.raises(InputError, match=said):
        uw.Influence(made, INVERSES["Identity"]).attribute(data, **given)


def test_spans_of_another_number_of_examples_are_refused() -> None:
    found = attributed("GPT-2", torch.float64, "EKFAC", "train-token")
    with pytest.raises(InputError, match="train: give the spans of each of 6 examples; got 1"):
        found.grouped(train=[[(0, 1)]])
    with pytest.raises(InputError, match=r"train: span \[4:9\] of example 0, which has 6 positions"):
        found.grouped(train=[[(4, 9)]] * 6).of(0, 0)
