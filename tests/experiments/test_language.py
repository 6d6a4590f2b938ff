"""The GPT's passages, its training on some of them, and what is made of its scores."""

import dataclasses
import types
from pathlib import Path

import pytest
import torch
from experiments.language import agreement, example, methods, passages, training, truth
from experiments.language.methods import CG, EKFAC

import upweight as uw
from upweight.report import Report

SHAPE = {"length": passages.LENGTH, "width": 8, "heads": 2, "layers": 1}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> passages.Passages:
    """Plays of letters in a cycle that differs from one to the other."""
    names = ("other", *passages.LEARNT)
    lines = [
        f"# PLAY\n\n**{name.upper()}**  \n" + "to be or not to be "[place:] * 400 for place, name in enumerate(names)
    ]
    plays = types.SimpleNamespace(names=names, texts=tuple(lines))
    monkeypatch.setattr(passages, "load", lambda name: plays)
    monkeypatch.setattr(passages, "PASSAGES", 8)
    monkeypatch.setattr(passages, "EVERY", 5)
    monkeypatch.setattr(training, "SHAPE", SHAPE)
    monkeypatch.setattr(training, "RECIPE", {"epochs": 1, "batch": 4, "rate": 1e-2})
    return passages.passages()


def start(given: passages.Passages) -> training.State:
    torch.manual_seed(0)
    return training.Transformer(len(given.characters), **SHAPE).state_dict()


def test_a_query_stands_between_passages_that_are_learnt_and_is_none_of_them(given: passages.Passages) -> None:
    assert given.train.shape == (32, passages.LENGTH)
    assert given.queries.shape == (4, passages.LENGTH)
    assert given.text(given.corpus).startswith("PLAY\n\nOTHER\n")
    assert not {*given.ids} & {*given.query_ids}
    assert {"hamlet 1", "hamlet 3"} < {*given.ids}
    assert given.query_ids[0] == "hamlet 2"
    opening = "PLAY\n\nHAMLET\n" + "o be or not to be " * 400
    assert given.query_texts[0] == opening[2 * passages.LENGTH : 3 * passages.LENGTH]
    assert given.texts[given.ids.index("hamlet 3")] == opening[3 * passages.LENGTH : 4 * passages.LENGTH]


def test_the_others_come_in_the_same_order_when_some_are_left_out(
    given: passages.Passages, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = training._Descent.step
    monkeypatch.setattr(training._Descent, "step", lambda self, tokens: seen.append(tokens) or step(self, tokens))
    every = given.train.clone()
    every[:, 0] = torch.arange(len(every)) % len(given.characters)  # told apart by their first token
    training.train(start(given), every, torch.arange(32), seed=3)
    whole = torch.cat(seen)
    seen.clear()
    kept = torch.arange(32) % 3 > 0
    found = training.train(start(given), every, kept.nonzero().flatten(), seed=3)
    order = [row for row in whole.tolist() if any(row == one for one in every[kept].tolist())]
    assert torch.cat(seen).tolist() == order
    assert len(found.checkpoints) == len(found.rates) == 1
    assert not found.model.training


def test_words_hold_every_character(given: passages.Passages) -> None:
    for text in given.texts:
        spans = example.words(text)
        assert spans[0].start == 0
        assert [span.stop for span in spans[:-1]] == [span.start for span in spans[1:]]
        assert [text[span.start : span.stop] for span in spans] == example.WORD.findall(text)


def test_scores_that_were_made_are_read_back(
    given: passages.Passages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(methods, "FOLDER", tmp_path)
    trained = training.train(start(given), given.train, torch.arange(32), seed=0)
    objective = methods.objective_of(trained, given)
    asked = truth.batch(given.queries)
    made = methods.kept("dot", 0, lambda: uw.similarity.gradient_dot(objective, asked))
    again = methods.kept("dot", 0, lambda: pytest.fail("it was there"))
    torch.testing.assert_close(again.scores, made.scores, rtol=0, atol=0)
    assert made.facts[methods.SECONDS] >= 0
    rows = torch.tensor([2, 0])
    some = agreement.of_rows(made, rows)
    assert (some.scores == made.scores[rows]).all()
    assert some.query_ids.tolist() == [made.query_ids[2], made.query_ids[0]]


@pytest.mark.filterwarnings("ignore::upweight.NotStationaryWarning")
def test_the_page_of_an_example_links_words_to_words(
    given: passages.Passages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(example, "passages", lambda: given)
    monkeypatch.setattr(example, "beginning", start)
    monkeypatch.setattr(example, "SHOWN", 1)
    kept: list[Report] = []
    save = Report.save
    monkeypatch.setattr(Report, "save", lambda self, path: kept.append(self) or save(self, path))
    found = example.example(1, tmp_path / "example.html")
    assert (tmp_path / "example.html").exists()
    helpful = kept[0].sections[0].blocks[0]
    assert "".join(helpful.tokens) == given.query_texts[1]
    first = helpful.examples[0]
    assert first.caption.startswith(str(found.top(1).ids[0, 0]))
    assert float(first.scores.sum()) == pytest.approx(float(found.scores.max()), rel=1e-3)


def test_the_table_has_means_over_models_and_the_better_method_first() -> None:
    def of(lds: float, step: float) -> dict:
        return {
            "lds": lds,
            "low": lds - 0.1,
            "high": lds + 0.1,
            "per_query": [lds - step, lds + step],
            "ceiling": 0.9,
            "seed_agreement": 0.8,
            "seconds": 2.0,
        }

    run = {"scores": {EKFAC: of(0.4, 0.1), CG: of(0.6, 0.1)}, "loss": [1.4, 1.6], "damping": 0.003, "residual": 0.2}
    run |= {"rise": {EKFAC: [0.1, 0.3], CG: [0.4, 0.6]}, "cpu_seconds": 1.0, "peak_memory_gib": 1.0}
    other = run | {"scores": {EKFAC: of(0.5, 0.1), CG: of(0.7, 0.1)}}
    found = agreement.result([run, other])
    assert dataclasses.asdict(found)["numbers"]["differences"][f"{CG} − {EKFAC}"].startswith("0.2000")
    lines = [line for line in found.why.splitlines() if line.startswith("| EK-FAC")]
    assert lines[0].startswith(f"| {CG} | 0.650 [0.550, 0.750] | 0.600 | 0.700 | +0.50")
    assert lines[1].startswith(f"| {EKFAC} | 0.450 [0.350, 0.550] | 0.400 | 0.500 | +0.20")
    assert "LDS EK-FAC + CG 0.650" in found.ours
