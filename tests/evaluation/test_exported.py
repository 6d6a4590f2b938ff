"""Ground truths for dattri and quanda: the same LDS by their formulas, the same losses from the models written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import upweight as uw
from problems import close, convex, with_parameters
from upweight.errors import InputError
from upweight.evaluation import GroundTruth, Training, as_dattri, export_truth, ground_truth

SEEDS = (0, 1)


def train(indices: Tensor, seed: int) -> nn.Module:
    """To a point near the optimum on a subset, one for each seed."""
    problem = convex("softmax")
    counts = torch.zeros(problem.n, dtype=torch.float64)
    counts[indices] = 1 / len(indices)
    return with_parameters(problem.model, problem.optimum(counts) + 1e-2 * seed)


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    problem = convex("softmax")
    return ground_truth(problem.objective(), Training(train, seeds=SEEDS), problem.queries, subsets=4)


def test_dattri_s_formula_on_the_pair_is_our_lds(truth: GroundTruth) -> None:
    problem = convex("softmax")
    scores = uw.Influence(problem.objective(), uw.inverse.Dense()).attribute(problem.queries)
    values, indices = as_dattri(truth)
    handed = scores.scores.T  # [train, queries], as dattri's methods give them
    sums = torch.stack([handed[members].sum(0) for members in indices])
    by_query = [spearmanr(sums[:, query], values[:, query]).statistic for query in range(values.shape[1])]
    assert sum(by_query) / len(by_query) == pytest.approx(truth.lds(scores).lds)


def test_dattri_s_folder_holds_the_models_that_were_measured(truth: GroundTruth, tmp_path: Path) -> None:
    problem = convex("softmax")
    training = Training(train, seeds=SEEDS)
    folder = export_truth(truth, tmp_path / "new", "dattri", objective=problem.objective(), train=training)
    values, indices = torch.load(folder / "ground_truth.pt", weights_only=True)
    close(values, -truth.outcomes.mean(1))
    assert torch.equal(indices, truth.subsets)
    lines = (folder / "metadata.yml").read_text().splitlines()
    assert lines[:3] == ["num_subsets: 4", "num_runs_per_subset: 2", "subset_dir_map:"]
    for number, line in enumerate(lines[3:]):
        key, _, value = line.strip().partition(": ")
        place = Path(json.loads(value))
        assert (int(key), place) == (number, folder.absolute() / str(number))
        listed = [int(position) for position in (place / "indices.txt").read_text().splitlines()]
        assert listed == truth.subsets[number].tolist()
        for seed in SEEDS:
            state = torch.load(place / f"model_weights_{seed}.pt", weights_only=True)
            close(losses(state), truth.outcomes[number, seed])


def test_quanda_has_a_model_for_each_subset_and_seed(truth: GroundTruth, tmp_path: Path) -> None:
    training = Training(train, seeds=SEEDS)
    export_truth(truth, tmp_path, "quanda", objective=convex("softmax").objective(), train=training)
    subsets = json.loads((tmp_path / "subset_ids.yaml").read_text())  # lists in YAML are those of JSON
    assert subsets == truth.subsets.repeat_interleave(2, dim=0).tolist()
    for number in range(8):
        state = torch.load(tmp_path / f"0_lds_model_{number}.ckpt", weights_only=True)
        close(losses(state), truth.outcomes[number // 2, number % 2])


def losses(state: dict[str, Tensor]) -> Tensor:
    """Of the queries under a state dict."""
    problem = convex("softmax")
    return problem.query_losses(torch.cat([value.flatten() for value in state.values()]))


def test_without_models_dattri_has_its_pair_alone(truth: GroundTruth, tmp_path: Path) -> None:
    export_truth(truth, tmp_path, "dattri")
    assert [path.name for path in tmp_path.iterdir()] == ["ground_truth.pt"]


def test_what_can_t_be_exported_says_why(truth: GroundTruth, tmp_path: Path) -> None:
    objective = convex("softmax").objective()
    with pytest.raises(InputError, match="train: quanda asks the retrained models"):
        export_truth(truth, tmp_path, "quanda")
    with pytest.raises(InputError, match="objective: give both"):
        export_truth(truth, tmp_path, "dattri", train=train)
    with pytest.raises(InputError, match="train: it has 1 seeds, and the truth 2"):
        export_truth(truth, tmp_path, "dattri", objective=objective, train=train)
    (tmp_path / "something").write_text("")
    with pytest.raises(InputError, match=r"folder: .* holds something"):
        export_truth(truth, tmp_path, "dattri")
