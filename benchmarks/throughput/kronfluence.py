"""EK-FAC of kronfluence, its factors by its defaults, the true labels' Fisher; batches as it is told."""

from __future__ import annotations

from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.utils.common.factor_arguments import all_low_precision_factor_arguments
from kronfluence.utils.common.score_arguments import all_low_precision_score_arguments
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks.fidelity.peers.kronfluence import Classification
from benchmarks.throughput.problems import Problem
from benchmarks.throughput.script import DAMPING, Clock, lowered, main


class Tracked(Classification):
    """The task with the layers that are attributed to."""

    def __init__(self, layers: list[str] | None):
        super().__init__()
        self._layers = layers

    def get_influence_tracked_modules(self) -> list[str] | None:
        """Names of modules, or all that can be hooked."""
        return self._layers


def score(problem: Problem, clock: Clock, device: torch.device, precision: str, folder: Path) -> Tensor:
    """Removals in nats."""
    model, train, queries = problem.made()
    with clock.stage("set-up"):
        task = Tracked(problem.layers(model))
        analyzer = Analyzer(
            "throughput",
            prepare_model(model, task),
            task,
            cpu=device.type == "cpu",
            output_dir=str(folder),
            disable_tqdm=True,
        )
    factors, scores = FactorArguments(use_empirical_fisher=True), ScoreArguments(damping_factor=DAMPING)
    if precision == "bfloat16" and device.type != "cpu":
        factors = all_low_precision_factor_arguments("ekfac", torch.bfloat16)
        factors.use_empirical_fisher = True
        scores = all_low_precision_score_arguments(DAMPING, dtype=torch.bfloat16)
    with lowered(device, "float32" if device.type != "cpu" else precision):
        data, asked = TensorDataset(*train), TensorDataset(*queries)
        with clock.stage("covariances"):
            analyzer.fit_covariance_matrices("f", data, per_device_batch_size=problem.batch, factor_args=factors)
        with clock.stage("eigenvectors"):
            analyzer.perform_eigendecomposition("f", factor_args=factors)
        with clock.stage("second moments"):
            analyzer.fit_lambda_matrices("f", data, per_device_batch_size=problem.batch, factor_args=factors)
        with clock.stage("scores"):
            analyzer.compute_pairwise_scores(
                "s",
                "f",
                asked,
                data,
                per_device_query_batch_size=len(asked),
                per_device_train_batch_size=problem.batch,
                score_args=scores,
            )
            return analyzer.load_pairwise_scores("s")["all_modules"] / len(data)


if __name__ == "__main__":
    main(score)
