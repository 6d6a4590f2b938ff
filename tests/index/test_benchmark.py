"""The benchmark of the index: its cases, its page and its figure."""

import json

import torch
from benchmarks.fidelity.plan import OURS
from benchmarks.index import agreement, figures, report, run, scan

from upweight.index import Leading, LowRank

MACHINE = {"processor": "P", "cores": 2, "threads": 1, "python": "3.11", "torch": "2.6"}


def row(share, lds):
    return {
        **{"row_bytes": 100.0, "fixed_bytes": 2_000_000, "numbers": 90, "share": share, "lds": lds, "damping": 0.02},
        **{"grid": {"0.01": lds, "0.02": lds + 0.01}, "build": 1.0, "scores": 2.0},
    }


def found():
    seconds = {"process": 1.5, "wall": 2.0}
    return {
        "machine": MACHINE,
        "agreement": {
            "exact, GGN": row(1.0, 0.6),
            f"{Leading(8)}, int8, GGN": row(0.001, 0.57),
            f"{LowRank(coefficients=False)}, int8, GGN": {"failed": "no memory"},
        },
        "projecting": {
            OURS: {"examples": 10, "gradients": 0.01, "Sparse, 8": {"made": 0.1, "projected": 0.5}},
            "trak": {"examples": 10, "8": {"made": 0.2, "projected": 10.0}},
            "dattri": {"failed": "no pip"},
        },
        "scan": {
            "int8": {"bytes": 10**9, **dict.fromkeys(("first", "later", "scores", "reading", "product"), seconds)}
        },
    }


def test_cases_have_names_of_their_own():
    names = [run.named(number) for number in range(len(agreement.CASES))]
    assert len(set(names)) == len(names)
    assert names[0] == "exact, GGN"


def test_the_page_holds_every_figure(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(found()))
    report.write(file)
    page = (tmp_path / "RESULTS.md").read_text()
    assert (tmp_path / figures.NAME).exists()
    for words in (
        "| 0.570 | 95.0% | 0.580 |",
        "no memory",
        "| trak | 8 | 1000.000 | 20.0 |",
        "no pip",
        "| int8 | 1.00 |",
    ):
        assert words in page


def test_lines_of_the_figure_are_in_the_order_of_bytes():
    one = found()["agreement"]
    one[f"{Leading(4)}, int8, GGN"] = row(0.0005, 0.4)
    assert figures.lines(one)["Leading, GGN"] == [(0.0005, 0.4), (0.001, 0.57)]


def test_an_index_of_random_rows_answers_as_its_product(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "NUMBERS", 70)
    for dtype in ("int8", "float32"):
        index = scan.made(tmp_path / dtype, 50, dtype)
        asked = scan.queries(index)
        scores = index.scores(asked, damping=0.1).scores
        held = index._stored.tensors("rows-000000")
        rows = held["values"].float() * (held["scales"] if dtype == "int8" else 1)
        torch.testing.assert_close(scores, asked.rows @ rows.T / 1.2 / 50, rtol=1e-3, atol=1e-4)
        assert torch.equal(scan.best(index, asked)[:, 0], scores.argmax(1))
    assert scan.read(tmp_path / "float32") > 50 * 70 * 4
