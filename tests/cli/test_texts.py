"""Texts, columns, string ids and coloured tokens of a study, in every command that shows training examples."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from upweight import study as studies
from upweight.predictions import predictions
from upweight.stored import Stored

from .conftest import Run, assert_self_contained

Ask = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")

STUDY = """
import pandas as pd, torch
import upweight as uw

WORDS = "pad red green blue cat dog bird sings runs".split()
TEXTS = ["red cat sings", "green dog runs", "blue bird", "red dog", "blue cat sings", "green bird runs", "dog sings"]

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = torch.nn.Embedding(len(WORDS), 4), torch.nn.Linear(4, len(WORDS))

    def forward(self, input_ids, attention_mask=None):
        return self.head(torch.tanh(self.table(input_ids)))

def encoded(texts):
    ids = torch.tensor([[WORDS.index(word) for word in text.split()] + [0] * (3 - len(text.split())) for text in texts])
    return {"input_ids": ids, "labels": torch.where(ids == 0, -100, ids)}

def study():
    torch.manual_seed(0)
    ids = [f"text-{k}" for k in range(len(TEXTS))]
    objective = uw.Objective(Model(), uw.losses.CausalLM(), encoded(TEXTS), l2=0.1, ids=ids)
    table = pd.DataFrame({"text": TEXTS, "source": [f"page {k}" for k in range(len(TEXTS))]})
    asked = ["red bird sings", "blue dog"]
    return uw.Study(objective, encoded(asked), query_ids=["first", "second"], table=table, TOKENS)
"""
TOKENS = "tokens=[t.split() for t in TEXTS], query_tokens=[t.split() for t in asked]"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "texts.py"
    path.write_text(STUDY.replace("TOKENS", TOKENS))
    return path


def messages(result: Any) -> str:
    return " ".join(result.output.replace("│", " ").split())


def test_explain_shows_texts_columns_and_coloured_tokens(study: Path, answer: Ask, run: Run) -> None:
    found = answer("explain", study, "--query", 0, "--top", 2)
    assert found["query"]["example"] == "first"
    best = found["helpful"][0]
    assert best["example"].startswith("text-")
    assert best["values"].keys() == {"text", "source"}
    tokens = found["tokens"]
    assert [token for token, _ in tokens["query"]] == ["red", " bird", " sings"]
    assert "".join(token for token, _ in tokens["examples"][0]["tokens"]) == best["values"]["text"]
    assert sum(score for _, score in tokens["examples"][0]["tokens"]) == pytest.approx(best["score"], rel=1e-4)
    page = Path(found["files"]["report"])
    assert_self_contained(page)
    html = page.read_text()
    assert html.count('class="text"') == 4
    assert best["values"]["source"] in html
    assert "<td>–</td>" not in html.split("The examples, and the query above them.")[0]
    scores = pd.read_csv(found["files"]["all scores"])
    assert scores["text"][0] == best["values"]["text"]
    shown = run("explain", study, "--query", 0, "--top", 2, "--force")
    assert "Token by token" in shown.output
    assert "query: red bird sings" in shown.output


def test_tokens_are_left_out_where_nobody_wants_or_knows_them(study: Path, answer: Ask, run: Run) -> None:
    found = answer("explain", study, "--no-tokens")
    assert "tokens" not in found
    assert 'class="token"' not in Path(found["files"]["report"]).read_text()
    study.write_text(STUDY.replace("TOKENS", ""))
    assert "tokens" not in answer("explain", study)
    refused = run("explain", study, "--tokens")
    assert refused.exit_code == 1
    assert "tokens: the objective knows no tokenizer; give the tokens" in messages(refused)


def test_tokens_that_are_not_those_of_the_model_are_told(study: Path, answer: Ask) -> None:
    study.write_text(STUDY.replace("TOKENS", "tokens=[['a']] * 7, query_tokens=[['a']] * 2"))
    found = answer("explain", study)
    assert "tokens" not in found
    assert any(said.startswith("tokens can't be scored: ") for said in found["warnings"])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("tokens=[['a']] * 7", "query_tokens: got none"),
        ("tokens=[['a']] * 6, query_tokens=[['a']] * 2", "tokens: got 6; give one for each of the 7 examples"),
    ],
)
def test_tokens_of_a_part_are_refused(tokens: str, message: str, study: Path, run: Run) -> None:
    study.write_text(STUDY.replace("TOKENS", tokens))
    result = run("explain", study)
    assert result.exit_code == 1
    assert message in messages(result)


def test_attribute_writes_a_page_and_query_one_without_the_study(study: Path, answer: Ask, run: Run) -> None:
    found = answer("attribute", study, "--out", "scores", "--report", "scores.html")
    html = Path(found["files"]["report"]).read_text()
    assert_self_contained(Path(found["files"]["report"]))
    assert html.count('class="all"') == 2  # tokens of both queries can be chosen
    assert "Query second" in html
    assert "source: page 3" in html
    again = run("attribute", study, "--out", "scores", "--report", "scores.html")
    assert again.exit_code == 1
    assert "--report: scores.html is there already" in messages(again)
    plain = answer("attribute", study, "--out", "scores", "--report", "plain.html", "--no-tokens")
    assert 'class="token"' not in Path(plain["files"]["report"]).read_text()
    study.unlink()
    answer("query", "scores", "second", "--to", "second.html", "--top", 2)
    page = Path("second.html").read_text()
    assert "Query second" in page
    assert "Query first" not in page
    assert "page 3" in page or "page 2" in page
    assert page.count("<tr>") == 5


def test_scores_of_examples_on_themselves_have_a_page(study: Path, answer: Ask) -> None:
    found = answer("attribute", study, "--out", "own", "--self-influence", "--report", "own.html")
    html = Path(found["files"]["report"]).read_text()
    assert "Each example&#39;s own" in html or "Each example's own" in html
    assert 'class="token"' not in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "scores.txt"], "--report: scores.txt is no name of a page"),
        (["--report", "p.html", "--tokens", "--renormalize"], "--tokens: scores by token don't go with --renormalize"),
    ],
)
def test_pages_that_cannot_be_are_refused(options: list[str], message: str, study: Path, run: Run) -> None:
    result = run("attribute", study, "--out", "scores", *options)
    assert result.exit_code == 1
    assert message in messages(result)


ROWS = """
import torch
import upweight as uw
from languages import llama, rows, tokenizer

def study():
    return uw.Study(uw.from_transformers(llama(), rows(), tokenizer(), l2=0.1), ["a b c d", "k j"])
"""


def test_a_study_of_transformers_needs_to_say_nothing(tmp_path: Path, answer: Ask) -> None:
    (tmp_path / "rows.py").write_text(ROWS)
    found = answer("explain", "rows.py", "--query", 1, "--top", 2)
    assert "".join(token for token, _ in found["tokens"]["query"]).split() == ["k", "j"]
    assert found["query"]["values"] == {"text": "k j"}
    assert found["helpful"][0]["values"].keys() == {"text", "number"}
    kept = answer("attribute", "rows.py", "--out", "store")
    assert kept["columns"] == ["text", "number"]
    assert Stored.open("store").columns["text"][1] == "b c"
    assert json.loads(json.dumps(kept["options"]))["columns"] is None


def test_explore_keeps_coloured_tokens_unless_it_is_told_not_to(study: Path, answer: Ask, run: Run) -> None:
    from upweight.explore import Contents

    answer("explore", study, "--prepare", "--no-tokens")
    assert Contents("texts.explore").coloured(0) is None
    answer("explore", study, "--prepare", "--tokens")  # what is missing is made
    found = Contents("texts.explore").coloured(1)
    assert found is not None
    assert "".join(found.tokens) == "blue dog"
    assert {len(each.tokens) for each in found.examples} <= {2, 3}
    assert "--tokens: tokens are scored by a study file" in messages(run("explore", "texts.explore", "--tokens"))


CLASSES = """
import torch
import upweight as uw
from languages import bert, rows, tokenizer

NAMES = ["calm", "loud", "neither"]

def study():
    labelled = rows().map(lambda row, place: {"label": place % 2}, with_indices=True)
    objective = uw.from_transformers(bert(), labelled, tokenizer(), l2=0.1)
    return uw.Study(objective, list(labelled)[:2], class_names=NAMES)
"""


def cells(html: str) -> list[list[str]]:
    """Of the last table, its head first."""
    rows = html.split("<table")[-1].split("</table>")[0].split("<tr")[1:]
    return [
        [re.sub("<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows
    ]


def test_a_page_of_scores_says_labels_and_predictions(tmp_path: Path, answer: Ask) -> None:
    study = tmp_path / "classes.py"
    study.write_text(CLASSES)
    page = Path(answer("attribute", study, "--out", "kept", "--report", "page.html", "--top-k", 2)["files"]["report"])
    given = studies.load(study)
    said = predictions(given.objective)
    names = [given.class_names[k] for k in said.predicted.tolist()]
    [first, second] = page.read_text().split("Query 0")[-1].split("Query 1")
    assert f"Labelled calm; the model says {names[0]} (p = " in first
    assert f"Labelled loud; the model says {names[1]} (p = " in second
    head, *rows = cells(first)
    assert head[:5] == ["rank", "id", "score", "label", "prediction"]
    assert len(rows) == 4
    for _, place, _, label, prediction, *_ in rows:
        assert (label, prediction) == (given.class_names[int(place) % 2], names[int(place)])
    own = answer("attribute", study, "--out", "own", "--self-influence", "--report", "own.html")["files"]["report"]
    assert "prediction" in cells(Path(own).read_text())[0]
