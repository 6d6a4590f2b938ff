"""`upweight domain-mismatch` finds the planted members, and refuses groups that can't be answered for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from .conftest import Run, assert_self_contained


@pytest.fixture
def clinic(tmp_path: Path) -> tuple[Path, Path]:
    """400 patients of two places, 6 of the coast, all ill but one; later ones of the coast are well."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"fever": random.normal(size=400), "age": random.integers(20, 80, 400)})
    frame["place"] = ["coast" if i < 6 else "town" for i in range(400)]
    ill = frame["fever"] + 0.5 * random.normal(size=400) > 0
    ill[:6] = [True] * 5 + [False]
    frame.loc[:4, "fever"] = -0.5
    frame["ill"] = np.where(ill, "yes", "no")
    later = pd.DataFrame({"fever": [-0.2, -0.1, 0.0, -2.0], "age": 40, "place": ["coast"] * 3 + ["town"], "ill": "no"})
    paths = tmp_path / "now.csv", tmp_path / "later.csv"
    frame.to_csv(paths[0], index=False)
    later.to_csv(paths[1], index=False)
    return paths


def asked(run: Run, *arguments: Any) -> dict[str, Any]:
    result = run("domain-mismatch", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_members_come_first(clinic: tuple[Path, Path], run: Run) -> None:
    found = asked(run, clinic[0], "--test", clinic[1], "-t", "ill", "-g", "place == 'coast'")
    assert found["members"] == 6
    assert all(row["in_group"] for row in found["top"][:4])
    assert {row["id"] for row in found["top"][:4]} <= set(range(6))
    assert found["coefficients"]["feature"] == "place=coast"
    assert found["concentration"]["strongest"] > 2
    assert {query["query"] for query in found["queries"]} <= {0, 1, 2}


def test_text_fits_and_files_are_whole(clinic: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    arguments = (clinic[0], "--test", clinic[1], "-t", "ill", "-g", "place == 'coast'", "-o", tmp_path / "out")
    result = run("domain-mismatch", *arguments)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines()[:-3])) <= 80
    assert len(pd.read_csv(tmp_path / "out" / "domain-mismatch.csv")) == 400
    assert (tmp_path / "out" / "domain-mismatch.png").stat().st_size > 10_000
    assert_self_contained(tmp_path / "out" / "domain-mismatch.html")


@pytest.mark.parametrize(("members", "more"), [(20, ""), (21, " …")])
def test_the_page_gives_the_first_twenty_ranks_and_says_that_there_are_more(
    clinic: tuple[Path, Path], run: Run, tmp_path: Path, members: int, more: str
) -> None:
    table = pd.read_csv(clinic[0])
    table["place"] = ["coast" if i < members else "town" for i in range(400)]
    table.to_csv(clinic[0], index=False)
    arguments = (clinic[0], "--test", clinic[1], "-t", "ill", "-g", "place == 'coast'", "--row", 0, "-o", tmp_path)
    assert run("domain-mismatch", *arguments).exit_code == 0
    page = (tmp_path / "domain-mismatch.html").read_text(encoding="utf-8")
    ranks = re.search(r"ranks of the members\W*(?:</?\w+>\W*)*([\d, ]+\d)( …)?", page)
    assert ranks is not None
    assert len(ranks[1].split(", ")) == 20
    assert (ranks[2] or "") == more


def test_given_rows_are_explained_whether_wrong_or_not(clinic: tuple[Path, Path], run: Run) -> None:
    found = asked(run, clinic[0], "-t", "ill", "-g", "age > 60", "--row", 7, "--row", 9)
    assert [query["query"] for query in found["queries"]] == [7, 9]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("place == 'moon'", "none of the 400 training examples belongs to the group"),
        ("plaice == 'coast'", "there is no column 'plaice'; did you mean 'place'?"),
        ("place ==", "can't be read"),
        ("age + 1", "'age + 1' isn't understood"),
        ("age >= 0", "all 400 training examples belong to the group"),
        ("age < 30", "none of the 4 examples of data belongs"),
    ],
)
def test_bad_groups_are_one_clear_error(clinic: tuple[Path, Path], run: Run, group: str, message: str) -> None:
    result = run("domain-mismatch", clinic[0], "--test", clinic[1], "-t", "ill", "-g", group, "--json")
    assert result.exit_code == 1
    assert message in json.loads(result.stdout)["error"]["message"]


def test_another_file_must_have_the_same_columns_and_classes(
    clinic: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    other = pd.read_csv(clinic[1])
    for changed, message in (
        (other.drop(columns="age"), "has no column 'age'"),
        (other.assign(ill="perhaps"), "'ill' holds 'perhaps'"),
    ):
        changed.to_csv(tmp_path / "other.csv", index=False)
        result = run(
            "domain-mismatch", clinic[0], "--test", tmp_path / "other.csv", "-t", "ill", "-g", "age < 30", "--json"
        )
        assert result.exit_code == 1
        assert message in json.loads(result.stdout)["error"]["message"]


STUDY = """
import pandas as pd, torch
import upweight as uw
from upweight import retraining

def study():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    x[:5, 3], y[:5] = 4, 1
    objective = uw.Objective(torch.nn.Linear(4, 2).double(), uw.losses.CrossEntropy(), (x, y), l2=1e-2)
    queries = x[:5] * torch.tensor([0, 0, 0, 1]) - torch.tensor([0.5, 0, 0, 0])
    table, asked = (pd.DataFrame({"site": ["a"] * k + ["b"] * (n - k)}) for k, n in ((5, 120), (5, 5)))
    return uw.Study(
        retraining.fit(objective), (queries, 0 * y[:5]), TABLES images=x.reshape(-1, 2, 2), class_names=["no", "yes"]
    )
"""


@pytest.mark.parametrize("tables", [True, False])
def test_a_study_gives_its_tables(run: Run, tmp_path: Path, tables: bool) -> None:
    path = tmp_path / "mine.py"
    path.write_text(STUDY.replace("TABLES", "table=table, query_table=asked," if tables else ""))
    result = run("domain-mismatch", path, "--group", "site == 'a'", "--json")
    found = json.loads(result.stdout)
    if tables:
        assert found["members"] == 5
        assert found["concentration"]["strongest"] > 1
    else:
        assert "has no tables to choose a group by" in found["error"]["message"]


def test_label_errors_of_a_study(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(STUDY.replace("TABLES", ""))
    result = run("label-errors", path, "--method", "margin", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert found["method"] == "margin"
    assert len(found["top"][0]["evidence"]) == 3
    page = Path(found["files"]["report"]).read_text()
    assert "against it: example" in page
    assert run("label-errors", path, "--method", "guess").exit_code == 2


def test_of_many_wrong_predictions_some_are_drawn_and_a_warning_says_so(clinic: tuple[Path, Path], run: Run) -> None:
    options = [clinic[0], "-t", "ill", "-g", "place == 'town'", "--force"]
    every = asked(run, *options)
    assert every["warnings"] == []
    few = asked(run, *options, "--most", 2)
    assert len(few["queries"]) == 2 < len(every["queries"])
    assert {each["query"] for each in few["queries"]} < {each["query"] for each in every["queries"]}
    assert few["warnings"][0].startswith(f"queries: 2 of the group's {len(every['queries'])} wrong predictions")


def test_of_a_quantity_the_whole_group_is_explained(clinic: tuple[Path, Path], run: Run) -> None:
    options = ["--test", clinic[1], "-t", "fever", "-g", "place == 'coast'", "--fold-group", "age"]
    assert len(asked(run, clinic[0], *options)["queries"]) == 3


def test_of_a_quantity_the_target_is_the_label(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"size": random.normal(size=80), "place": np.where(np.arange(80) % 9, "town", "coast")})
    frame["price"] = (1000 + 80 * frame["size"] + random.normal(size=80)).round(2)
    frame.to_csv(tmp_path / "prices.csv", index=False)
    arguments = (tmp_path / "prices.csv", "-t", "price", "-g", "place == 'coast'", "-o", tmp_path / "out")
    found = asked(run, *arguments)
    assert [row["label"] for row in found["top"]] == frame["price"][[row["id"] for row in found["top"]]].tolist()
    listed = pd.read_csv(tmp_path / "out" / "domain-mismatch.csv")
    assert listed["label"].tolist() == frame["price"][listed["row"]].tolist()
    shown = run("domain-mismatch", *arguments, "--force").stdout
    assert f"{listed['label'][0]:,.0f}" in shown
