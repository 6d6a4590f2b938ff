"""One passage that no model has seen: which passages, and which of their words, made the GPT expect it?"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import torch

import upweight as uw
from experiments.language.methods import objective_of
from experiments.language.passages import QUICK, passages
from experiments.language.training import beginning, train
from experiments.language.truth import batch
from experiments.results import HERE
from experiments.running import run
from upweight.report import Report, TokenExample, Tokens
from upweight.spans import Span

WORD = re.compile(r"\S+\s*|\s+")
SHOWN = 4


def words(text: str) -> list[Span]:
    """Words with the space behind them, as spans of the characters that are tokens here."""
    return uw.spans.pieces(
        [match.span() for match in WORD.finditer(text)], [(k, k + 1) for k in range(len(text))], text
    )


def example(query: int, path: Path) -> uw.Attribution:
    """Write the page of the query's most helpful and most harmful passages; returns the passages' scores."""
    given = passages()
    trained = train(beginning(given), given.train, torch.arange(len(given.train)), seed=0)
    influence = uw.Influence(objective_of(trained, given), uw.inverse.EKFAC())
    found = influence.attribute(
        batch(given.queries[query : query + 1]), by="token", query_ids=[given.query_ids[query]]
    ).grouped(train=[words(text) for text in given.texts], query=[words(given.query_texts[query])])
    blocks = {}
    for title, ranking in (("Most helpful", found.sequence.top(SHOWN)), ("Most harmful", found.sequence.bottom(SHOWN))):
        shown = [found.of(0, place) for place in ranking.positions[0].tolist()]
        blocks[title] = Tokens(
            WORD.findall(given.query_texts[query]),
            [
                TokenExample(
                    f"{each.id}: score {each.sequence:+.3g}", WORD.findall(given.texts[each.example]), each.pairs
                )
                for each in shown
            ],
            "Blue: the word helped the model to expect the query; orange: it was in the way. Of the sizes, "
            f"{found.sequence.magnitude}.",
        )
    report = Report("A GPT of Shakespeare's plays", f"What made the model expect the passage {given.query_ids[query]}.")
    for title, block in blocks.items():
        report = report.section(title, block)
    report.save(path)
    return found.sequence


def main() -> None:
    warnings.simplefilter("ignore", uw.NotStationaryWarning)  # the model was trained by epochs, as models are
    query = int(sys.argv[1]) if sys.argv[1:] else 2
    folder = HERE / "language" / ("quick" if QUICK else "results")
    folder.mkdir(parents=True, exist_ok=True)
    found = example(query, folder / "language_example.html")
    given = passages()
    print(repr(given.query_texts[query]))
    print(found.top(SHOWN).to_pandas({"text": [repr(text) for text in given.texts]}).to_string(index=False))


if __name__ == "__main__":
    run(main)
