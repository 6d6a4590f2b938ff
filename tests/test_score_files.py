"""Files of other libraries, in the form in which kronfluence 1.0.1, trak 0.3.2 and dattri 0.3 write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import upweight as uw
from upweight.errors import InputError

SCORES = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def kronfluence(folder: Path, parts: dict[str, torch.Tensor], name: str = "pairwise_scores") -> Path:
    folder.mkdir(exist_ok=True)
    save_file(parts, folder / f"{name}.safetensors")
    (folder / "score_arguments.json").write_text(json.dumps({"damping_factor": 0.01, "score_dtype": "torch.float32"}))
    return folder


def test_of_kronfluence_modules_are_summed_and_numbers_are_removals(tmp_path: Path) -> None:
    half = SCORES / 2
    folder = kronfluence(tmp_path / "scores_a", {"layers.0": half, "layers.2": SCORES - half})
    found = uw.read_scores(folder, "kronfluence", ids=list("abcdefgh"))
    torch.testing.assert_close(found.scores, SCORES / 8)
    assert found.damping == 0.01
    assert found.quantity.name == "removal"
    assert found.magnitude is not None
    assert not found.magnitude.trusted
    assert found.top(1).ids[:, 0].tolist() == [list("abcdefgh")[i] for i in SCORES.argmax(1)]
    again = uw.read_scores(folder / "pairwise_scores.safetensors", "kronfluence")
    torch.testing.assert_close(again.scores, found.scores)


def test_of_kronfluence_self_scores_have_no_queries(tmp_path: Path) -> None:
    found = uw.read_scores(kronfluence(tmp_path / "s", {"all_modules": SCORES[0]}, "self_scores"), "kronfluence")
    assert found.scores.shape == (8,)
    assert found.quantity.name == "self-influence"


def test_of_trak_and_dattri_training_examples_are_rows(tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "exp.mmap", mode="w+", dtype=np.float16, shape=(8, 3))
    mapped[:] = SCORES.T.numpy()
    mapped.flush()
    found = uw.read_scores(tmp_path / "exp.mmap", "trak", query_ids=["x", "y", "z"])
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores, SCORES.half().float())
    torch.save(SCORES.T.contiguous(), tmp_path / "scores.pt")
    torch.testing.assert_close(uw.read_scores(tmp_path / "scores.pt", "dattri").scores, SCORES / 8)


def test_an_array_is_taken_as_it_is_and_can_be_judged_and_saved(tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", SCORES.double().numpy())
    found = uw.read_scores(tmp_path / "scores.npy", "numpy")
    assert found.scores.dtype == torch.float64
    subsets = np.stack([np.random.default_rng(seed).permutation(8)[:4] for seed in range(12)])
    losses = -np.stack([SCORES[:, subset].sum(1).numpy() for subset in subsets])
    metric = uw.evaluation.LDS(subsets, resamples=20)
    metric.update(found, losses)
    assert metric.compute().lds > 0.99
    found.save(tmp_path / "kept")
    torch.testing.assert_close(uw.Attribution.load(tmp_path / "kept").scores, found.scores)


class Coded:
    """Would be made anew while it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def test_what_is_no_such_file_is_refused_and_nothing_in_it_runs(tmp_path: Path, capsys: Any) -> None:
    def refused(path: Path, of: Any, words: str, **options: Any) -> None:
        with pytest.raises(InputError, match=words):
            uw.read_scores(path, of, **options)

    refused(tmp_path / "none", "trak", "path: there is no")
    (tmp_path / "text").write_text("no scores")
    for of in ("kronfluence", "trak", "dattri", "numpy"):
        refused(tmp_path / "text", of, "path: text can't be read")
    refused(tmp_path, "kronfluence", "holds 0 of pairwise_scores.safetensors")
    refused(kronfluence(tmp_path / "t", {"a": torch.zeros(3, 8, 5)}), "kronfluence", "scores by token")
    torch.save(Coded(), tmp_path / "coded.pt")
    refused(tmp_path / "coded.pt", "dattri", "can't be read as a tensor")
    np.save(tmp_path / "coded.npy", np.array([[Coded()]], dtype=object), allow_pickle=True)
    refused(tmp_path / "coded.npy", "numpy", "can't be read as an array")
    assert capsys.readouterr().out == ""
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    refused(tmp_path / "nan.npy", "numpy", "NaN or infinite")
    np.save(tmp_path / "whole.npy", np.ones((2, 2), dtype=int))
    refused(tmp_path / "whole.npy", "numpy", "matrix of real numbers")
    np.save(tmp_path / "ok.npy", np.ones((2, 2)))
    refused(tmp_path / "ok.npy", "numpy", "ids: ", ids=["a", "a"])
    refused(tmp_path / "ok.npy", "bergson", "of: ")
