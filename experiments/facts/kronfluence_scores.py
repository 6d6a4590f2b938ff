"""kronfluence's EK-FAC scores of a saved problem, run in kronfluence's own environment by `experiments.facts.peer`."""

from __future__ import annotations

import sys
import tempfile

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.facts.model import Transformer

BATCH = 50


class NextWord(Task):
    """The sum of −log p over the words that have a label, as `uw.losses.CausalLM` has it."""

    def compute_train_loss(self, batch: tuple[Tensor, Tensor], model: nn.Module, sample: bool = False) -> Tensor:
        """Sum over the batch; with ``sample`` the words are drawn from the model, as the true Fisher asks."""
        tokens, labels = batch
        logits, wanted = model(tokens)[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        if sample:
            with torch.no_grad():
                drawn = torch.multinomial(logits.softmax(-1), 1).flatten()
            wanted = torch.where(wanted == -100, wanted, drawn)
        return nn.functional.cross_entropy(logits, wanted, reduction="sum")

    def compute_measurement(self, batch: tuple[Tensor, Tensor], model: nn.Module) -> Tensor:
        """The loss of the answers."""
        return self.compute_train_loss(batch, model)


def scores(state: dict[str, Tensor], problem: dict, damping: float | None) -> tuple[Tensor, Tensor]:
    """Pairs ``[queries, train]``, examples on themselves ``[train]``; damping None is a tenth of each layer's mean.

    Where the problem says ``own=False``, the latter are left out: NaN.
    """
    model = Transformer(**problem["shape"])
    model.load_state_dict(state)
    task = NextWord()
    train, queries = TensorDataset(*problem["train"]), TensorDataset(*problem["queries"])
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "facts", prepare_model(model.eval(), task), task, cpu=True, output_dir=folder, disable_tqdm=True
        )
        analyzer.fit_all_factors("factors", train, per_device_batch_size=BATCH, factor_args=FactorArguments())
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            queries,
            train,
            per_device_query_batch_size=len(queries),
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=damping),
        )
        pairs = analyzer.load_pairwise_scores("scores")["all_modules"]
        if not problem.get("own", True):
            return pairs, torch.full((len(train),), torch.nan)
        analyzer.compute_self_scores(
            "self",
            "factors",
            train,
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=damping),
        )
        return pairs, analyzer.load_self_scores("self")["all_modules"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = torch.load(sys.argv[1], weights_only=True)
    default = ScoreArguments().damping_factor
    found = {}
    for name, damping in (("its default damping", default), ("its heuristic damping", None)):
        each = [scores(state, given, damping) for state in given["checkpoints"]]
        found[name] = torch.stack([pairs for pairs, _ in each]), torch.stack([own for _, own in each])
    torch.save(found, sys.argv[2])
