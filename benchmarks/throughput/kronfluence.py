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
from benchmarks.throughput.script import DAMPING, Clock, main


def score(problem: Problem, clock: Clock, device: torch.device, precision: str, folder: Path) -> Tensor:
    """Removals in nats."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    model, train, queries = problem.made()
    task = Classification()
    with clock.stage("objective"):
        analyzer = Analyzer(
            "throughput",
            prepare_model(model, task),
            task,
            cpu=device.type == "cpu",
            output_dir=str(folder),
            disable_tqdm=True,
        )
    factors, scores = FactorArguments(use_empirical_fisher=True), ScoreArguments(damping_factor=DAMPING)
    if precision == "bfloat16":
        factors = all_low_precision_factor_arguments("ekfac", torch.bfloat16)
        factors.use_empirical_fisher = True
        scores = all_low_precision_score_arguments(torch.bfloat16)
        scores.damping_factor = DAMPING
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
