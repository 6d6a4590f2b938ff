"""Tokens that are kept in a store, and shown as text whose colours say their share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nicegui.testing import User
from torch import Tensor, nn

import upweight as uw
from explore.test_markup import read
from explore.test_page import visited
from explored import MARK
from upweight.errors import InputError
from upweight.explore import Contents, Given, Readable, coloured, made, markup
from upweight.explore.coloured import of_bytes, to_bytes
from upweight.explore.page import Page
from upweight.store.backend import Local

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
TEXTS = [
    "red cat sings",
    f"green dog {MARK}",
    "blue bird",
    "red dog",
    "blue cat sings",
    "green bird sings",
    "dog sings",
]
ASKED = ["red bird sings", f"blue {MARK}"]


def parted(text: str) -> list[str]:
    """Words; a mark with its spaces is one of them."""
    rest = text.removesuffix(MARK)
    return [*rest.split(), *([MARK] if rest != text else [])]


WORDS = ["pad", *dict.fromkeys(word for text in TEXTS for word in parted(text))]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(len(WORDS), 4), nn.Linear(4, len(WORDS))

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(input_ids)))


def encoded(texts: list[str]) -> dict[str, Tensor]:
    ids = torch.tensor([[WORDS.index(word) for word in parted(text)] + [0] * (3 - len(parted(text))) for text in texts])
    return {"input_ids": ids, "labels": torch.where(ids == 0, -100, ids)}


def asked_of() -> uw.Influence:
    """A model that has seen some texts, marks among them."""
    torch.manual_seed(0)
    return uw.Influence(uw.Objective(Model().double(), uw.losses.CausalLM(), encoded(TEXTS), l2=0.1))


def kept(influence: uw.Influence, place: Path) -> Path:
    """A store whose texts are coloured."""
    influence.attribute(encoded(ASKED), store=place, columns={})
    own = {"words": np.array([" ".join(parted(text)) for text in TEXTS])}
    read_ = Readable(influence, [parted(text) for text in TEXTS], [parted(text) for text in ASKED])
    given = Given("texts", own=own, read=read_)
    made(Local(place), influence.objective, encoded(ASKED), given, query_ids=np.arange(len(ASKED)))
    return place


@pytest.fixture(scope="module")
def influence() -> uw.Influence:
    return asked_of()


@pytest.fixture(scope="module")
def store(influence: uw.Influence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(influence, tmp_path_factory.mktemp("coloured") / "store")


def test_what_is_kept_adds_up_to_the_stores_scores(store: Path, influence: uw.Influence) -> None:
    contents = Contents(store)
    for query in range(len(ASKED)):
        found = contents.coloured(query)
        assert found is not None
        assert list(map(str.strip, found.tokens)) == parted(ASKED[query])
        evidence = contents.evidence(query, 6)
        assert [each.position for each in found.examples] == [each.position for each in evidence]
        for token, whole in zip(found.examples, evidence, strict=True):
            assert token.scores.shape == (len(found.tokens), len(token.tokens))
            parts = float(token.by_token.sum()) + token.special + token.remainder
            assert parts == pytest.approx(whole.score, rel=1e-5, abs=1e-9)


def test_bytes_give_the_same_explanation_again(influence: uw.Influence, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"tokens": [parted(text) for text in TEXTS], "query_tokens": [parted(text) for text in ASKED]}
    one = uw.tasks.explain(influence, encoded(ASKED), k=2, **given).tokens[1]
    again = of_bytes(to_bytes(one))
    assert repr(again) == repr(one)
    assert again.block().linked
    monkeypatch.setattr(coloured, "PAIRS", 5)
    few = of_bytes(to_bytes(one))
    assert not few.block().linked
    assert np.allclose(few.examples[0].scores, one.examples[0].by_token)


def test_marks_in_tokens_stay_words(store: Path) -> None:
    found = Contents(store).coloured(1)
    assert found is not None
    for _, tokens in found.block().texts:
        html = read(str(markup.tokens(tokens)))
        assert set(html.found) == {"p", "span"}
        assert html.words == "".join(each.text for each in tokens)
    assert any(MARK in each.text for _, tokens in found.block().texts for each in tokens)


def test_a_page_colours_both_sides_and_one_token_alone(store: Path) -> None:
    async def flow(user: User, page: Page) -> None:
        page.ask(1)
        await user.should_see("all tokens")
        await user.should_see(MARK)
        await user.should_see("Above the query, below training examples")
        position = page.session.evidence[0].position
        before = next(iter(user.find(marker=f"tokens-{position}").elements)).content  # type: ignore[attr-defined]
        user.find(marker="token-2").click()
        await user.should_see(marker="chosen-2")
        after = next(iter(user.find(marker=f"tokens-{position}").elements)).content  # type: ignore[attr-defined]
        assert page.session.token == 2
        assert "--v:" in before
        assert before != after
        page.ask(0)
        assert page.session.token == 0

    visited(store, flow)


def test_what_cannot_be_scored_is_said_or_refused(influence: uw.Influence, tmp_path: Path) -> None:
    stored = influence.attribute(encoded(ASKED), store=tmp_path / "store", columns={})
    said: list[str] = []
    order = np.arange(2)
    assert coloured.coloured(stored, encoded(ASKED), order, Readable(influence), said.append) is None
    assert said == []
    known = {"tokens": [parted(text) for text in TEXTS], "query_tokens": [parted(text) for text in ASKED]}
    partly = Readable(influence, whole=False, **known)
    assert coloured.coloured(stored, encoded(ASKED), order, partly, said.append) is None
    assert "leverage" in said[0]
    with pytest.raises(InputError, match="knows no tokenizer"):
        coloured.coloured(stored, encoded(ASKED), order, Readable(influence, wanted=True), said.append)
    one = coloured.coloured(stored, encoded(ASKED), order[:1], Readable(influence, **known), said.append)
    assert one is not None
    assert one[1] == coloured.PLAIN


@pytest.mark.parametrize("is_known", [True, False])
def test_tokens_are_said_to_be_scored_only_where_they_are(
    is_known: bool, influence: uw.Influence, tmp_path: Path
) -> None:
    place = tmp_path / "store"
    influence.attribute(encoded(ASKED), store=place, columns={})
    known = {"tokens": [parted(text) for text in TEXTS], "query_tokens": [parted(text) for text in ASKED]}
    given, said = Given("texts", read=Readable(influence, **known if is_known else {})), list[str]()
    made(Local(place), influence.objective, encoded(ASKED), given, query_ids=np.arange(2), said=said.append)
    assert ("scoring tokens" in said) == is_known
    assert (Contents(place).coloured(0) is not None) == is_known
