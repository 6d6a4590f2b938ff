"""kronfluence: EK-FAC over Linear and Conv2d; what else has parameters it leaves out.

Its scores are qᵀ(F + δ)⁻¹g with the mean Fisher F; over n they are removals in nats. Its default damping is 1e-8, its
heuristic one a tenth of each layer's mean eigenvalue. It offers one sampled label per example, not several;
``EK-FAC, empirical`` takes the true labels, so that nothing in it is random.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.fitted import Fitted
from benchmarks.fidelity.peers.problem import Problem
from benchmarks.fidelity.peers.script import run

BATCH = 500
MULTIPLES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""The grid: dampings in multiples of the mean eigenvalue over all layers."""


class Classification(Task):
    """The loss of `benchmarks.fidelity.models`, for training data and queries."""

    def compute_train_loss(self, batch: tuple[Tensor, Tensor], model: nn.Module, sample: bool = False) -> Tensor:
        """Sum over the batch; with ``sample`` the labels are drawn from the model, as the true Fisher asks."""
        x, y = batch
        outputs = model(x)
        if sample:
            with torch.no_grad():
                y = torch.multinomial(outputs.flatten(0, -2).softmax(-1), 1).reshape(y.shape)
        return models.loss_of_outputs(outputs, y).sum()

    def compute_measurement(self, batch: tuple[Tensor, Tensor], model: nn.Module) -> Tensor:
        """The queries' loss."""
        return self.compute_train_loss(batch, model)


def ekfac(problem: Problem, folder: Path, *, empirical: bool = False, heuristic: bool = False) -> Fitted:
    """Gradients once; scores per damping, all queries in one batch since it runs the training data for each."""
    task = Classification()
    analyzer = Analyzer(
        "fidelity",
        prepare_model(problem.model, task),
        task,
        cpu=True,
        output_dir=str(folder),
        disable_tqdm=True,
    )
    train, queries = TensorDataset(*problem.train), TensorDataset(*problem.queries)
    analyzer.fit_all_factors(
        "factors", train, per_device_batch_size=BATCH, factor_args=FactorArguments(use_empirical_fisher=empirical)
    )
    mean = mean_eigenvalue(analyzer)

    def score(damping: float | None) -> Tensor:
        unasked = None if heuristic else ScoreArguments().damping_factor
        arguments = ScoreArguments(damping_factor=unasked if damping is None else damping)
        name = f"scores-{damping}"
        analyzer.compute_pairwise_scores(
            name,
            "factors",
            queries,
            train,
            per_device_query_batch_size=len(queries),
            per_device_train_batch_size=BATCH,
            score_args=arguments,
            overwrite_output_dir=True,
        )
        return analyzer.load_pairwise_scores(name)["all_modules"] / len(train)

    tracked = sum(factor.numel() for factor in analyzer.load_lambda_matrices("factors")["lambda_matrix"].values())
    settings = {
        "unit": "nats",
        "labels": "true" if empirical else "one sampled per example",
        "batch": BATCH,
        "mean eigenvalue": mean,
        "parameters left out": sum(p.numel() for p in models.build(problem.task).parameters()) - tracked,
    }
    return Fitted(score, tuple(multiple * mean for multiple in MULTIPLES), settings)


def mean_eigenvalue(analyzer: Analyzer) -> float:
    """Mean of the corrected eigenvalues over all layers."""
    factors = analyzer.load_lambda_matrices("factors")
    each = [factors["lambda_matrix"][name] / factors["num_lambda_processed"][name] for name in factors["lambda_matrix"]]
    return float(sum(values.sum() for values in each) / sum(values.numel() for values in each))


if __name__ == "__main__":
    variants = {
        "EK-FAC": ekfac,
        "EK-FAC, heuristic damping": partial(ekfac, heuristic=True),
        "EK-FAC, empirical": partial(ekfac, empirical=True),
    }
    run("kronfluence", variants)
