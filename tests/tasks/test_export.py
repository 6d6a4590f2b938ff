"""What other tools open, and what notebooks show."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import upweight as uw
from problems import convex
from upweight.errors import InputError

MARKER = "<script>window.marker = 1</script>"
FORMULA = '=HYPERLINK("http://localhost/marker")'


@cache
def errors() -> uw.tasks.LabelErrors:
    names = [MARKER, FORMULA, "c"]
    return uw.tasks.label_errors(convex("softmax").objective(), class_names=names)


def test_cleanlab_gets_its_columns_in_the_order_of_the_data(tmp_path: Path) -> None:
    frame = pd.read_parquet(uw.tasks.export(errors(), tmp_path / "a.parquet", "cleanlab"))
    said = errors().predictions
    assert frame["given_label"].tolist() == said.given.tolist()
    assert frame["predicted_label"].tolist() == said.predicted.tolist()
    assert set(frame["given"]) <= {MARKER, FORMULA, "c"}
    assert frame["is_label_issue"].tolist() == said.wrong.tolist()
    probability = said.probability(said.given)
    assert probability is not None
    assert np.allclose(frame["label_quality"], probability)


def test_an_atlas_gets_places_and_neighbours(tmp_path: Path) -> None:
    own = pd.DataFrame({"score": range(len(errors().order))})
    frame = pd.read_parquet(uw.tasks.export(errors(), tmp_path / "a.parquet", "embedding-atlas", columns=own))
    assert {"projection_x", "projection_y", "neighbors", "given", "score", "score (column)"} <= set(frame)
    inputs = torch.cat([batch[0] for _, batch in errors().influence.objective.batches()])
    near = torch.cdist(inputs[:1], inputs)[0]
    near[0] = torch.inf
    assert frame["neighbors"][0]["ids"][0] == int(near.argmin())
    assert frame["neighbors"][0]["distances"][0] == pytest.approx(float(near.min()))
    assert np.var(frame["projection_x"]) >= np.var(frame["projection_y"])


def test_fiftyone_gets_whole_paths_of_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").touch()
    paths = [f"{i}.png" for i in range(len(errors().order))]
    frame = pd.read_csv(uw.tasks.export(errors(), tmp_path / "a.csv", "fiftyone", filepaths=paths))
    assert frame["filepath"].tolist() == [str(tmp_path / "0.png"), *paths[1:]]


def test_fiftyone_gets_paths_first_and_no_formula(tmp_path: Path) -> None:
    paths = [f"{i}.png" for i in range(len(errors().order))]
    file = uw.tasks.export(errors(), tmp_path / "a.csv", "fiftyone", filepaths=paths)
    frame = pd.read_csv(file)
    assert frame["filepath"].tolist() == paths
    assert not any(str(cell).startswith("=") for cell in frame["given"])
    assert f"'{FORMULA}" in set(frame["given"])
    with pytest.raises(InputError, match="filepaths: FiftyOne shows images"):
        uw.tasks.export(errors(), tmp_path / "b.csv", "fiftyone")


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="coordinates: got 2; give one for each"):
        uw.tasks.export(errors(), tmp_path / "a", "embedding-atlas", coordinates=[[0, 0], [1, 1]])
    with pytest.raises(InputError, match="form: "):
        uw.tasks.export(errors(), tmp_path / "a", "csv")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unchecked")
def test_columns_by_name_have_a_value_for_each_example(tmp_path: Path) -> None:
    n = len(errors().order)
    text = f"give one for each of the {n} training examples"
    for values, got in (
        ([0] * (n + 1), f"{n + 1} values"),
        (torch.arange(n - 1), f"{n - 1} values"),
        ([], "0 values"),
        (np.zeros((n, 2)), rf"shape \({n}, 2\)"),
        ("x" * n, "'x+'"),
        (3, "3"),
    ):
        with pytest.raises(InputError, match=f"columns: 'b' has {got}; {text}"):
            uw.tasks.export(errors(), tmp_path / "a", "cleanlab", columns={"a": range(n), "b": values})
    with pytest.raises(InputError, match=rf"columns: got \{{\}}; {text}"):
        uw.tasks.export(errors(), tmp_path / "a", "cleanlab", columns={})
    assert not list(tmp_path.iterdir())


def test_columns_may_be_a_dict(tmp_path: Path) -> None:
    n = len(errors().order)
    series = pd.Series(range(n), index=range(n, 0, -1))  # its rows' names say nothing of its order
    given = {"list": list("ab" * n)[:n], "tensor": torch.arange(n), "series": series, 7: np.linspace(0, 1, n)}
    frame = pd.read_parquet(uw.tasks.export(errors(), tmp_path / "a.parquet", "cleanlab", columns=given))
    assert len(frame) == n
    assert frame["list"].tolist() == given["list"]
    assert frame["tensor"].tolist() == frame["series"].tolist() == list(range(n))
    assert np.allclose(frame["7"], np.linspace(0, 1, n))


def test_notebooks_show_results_and_run_no_markup() -> None:
    found = errors()._repr_html_()
    assert "LabelErrors by out-of-sample" in found
    assert "&lt;script&gt;" in found
    assert "<script" not in found
    influence = errors().influence
    attribution = influence.attribute(influence.objective.data.take([0, 1]), query_ids=[MARKER, "b"])
    for shown in (attribution._repr_html_(), influence.self_influence()._repr_html_(), influence.plan(2)._repr_html_()):
        assert "<script" not in shown
        assert shown.count("<tr") == shown.count("</tr>") > 2
    assert "rgba" in attribution._repr_html_()
