"""pyDVL's ``CgInfluence`` on a problem of `benchmarks.problem`; runs in the peer's environment.

    python -m benchmarks.peer_pydvl problem.npz answer.npz --variant block --tolerance 1e-5

Prints one line of JSON. What makes the comparison exact:

- its Hessian is that of the mean loss, so λ goes in as ``regularization`` and the matrices are equal;
- it averages batch means without weights, so batches must have equal length: one batch holds all examples, and is
  handed over whole (a loader that collates example by example would cost the peer more than the products);
- it stops at ‖r‖ ≤ rtol²·‖b‖ (block) or, one by one, at a bound from another norm; the square root of the tolerance,
  and ``atol`` set for each vector, make both stop at ‖r‖ ≤ tolerance·‖b‖.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Growth
from benchmarks.peer_variants import VARIANTS

warnings.simplefilter("ignore")

from pydvl.influence.torch import CgInfluence  # noqa: E402
from pydvl.influence.torch import preconditioner as preconditioners  # noqa: E402

GRADIENT_ROWS = 20_000


class Whole(Dataset):
    """All examples as one ready batch."""

    def __init__(self, x: Tensor, y: Tensor):
        self.batch = (x, y)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.batch


def read(path: str) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor], float]:
    """Model, training data, queries and λ."""
    with np.load(path) as arrays:
        theta = torch.from_numpy(arrays["theta"]).float()
        model = nn.Linear(theta.shape[1], theta.shape[0], bias=False)
        model.weight.data = theta
        parts = []
        for x, y in (("x", "y"), ("query_x", "query_y")):
            labels = torch.from_numpy(arrays[y])
            parts.append(
                (torch.from_numpy(arrays[x]).float() / 255, labels.float()[:, None] if len(theta) == 1 else labels)
            )
        return model, parts[0], parts[1], float(arrays["l2"])


def work(model, train, queries, l2: float, variant: str, tolerance: float) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Gradients ``[queries, p]``, values ``[queries, train]`` and the seconds of each stage."""
    together, named = VARIANTS[variant]
    loss = F.binary_cross_entropy_with_logits if model.out_features == 1 else F.cross_entropy
    start, cpu = time.perf_counter(), time.process_time()
    influence = CgInfluence(
        model,
        loss,
        regularization=l2,
        rtol=tolerance**0.5,
        atol=1e-12,
        maxiter=1000,
        solve_simultaneously=together,
        preconditioner=named and getattr(preconditioners, named[0])(named[1]),
    ).fit(DataLoader(Whole(*train), batch_size=None))
    fitted = time.perf_counter()
    if together:
        factors = influence.influence_factors(*queries)
    else:
        (block,) = influence.block_mapper.composable_block_dict.values()
        rows = []
        for x, y in zip(queries[0].split(1), queries[1].split(1), strict=True):
            gradient = torch.autograd.grad(loss(model(x), y), model.weight)[0]
            block.op.rtol, block.op.atol = 0.0, (tolerance * float(gradient.norm())) ** 0.5
            rows.append(influence.influence_factors(x, y))
        factors = torch.cat(rows)
    solved = time.perf_counter()
    chunks = zip(train[0].split(GRADIENT_ROWS), train[1].split(GRADIENT_ROWS), strict=True)
    values = torch.cat([influence.influences_from_factors(factors, x, y) for x, y in chunks], dim=1)
    done = time.perf_counter()
    stages = {"prepare": fitted - start, "factors": solved - fitted, "values": done - solved, "total": done - start}
    stages["processor"] = time.process_time() - cpu
    return factors, values, stages


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("problem")
    parser.add_argument("answer")
    parser.add_argument("--variant", choices=VARIANTS, default="block")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--queries", type=int, default=None)
    options = parser.parse_args()
    model, train, (query_x, query_y), l2 = read(options.problem)
    torch.manual_seed(0)
    few = train[0][:1000], train[1][:1000]
    work(model, few, (query_x[:2], query_y[:2]), l2, options.variant, 1e-2)
    queries = query_x[: options.queries], query_y[: options.queries]
    with Growth() as growth:
        factors, values, stages = work(model, train, queries, l2, options.variant, options.tolerance)
    np.savez(options.answer, factors=factors.detach().numpy(), values=values.detach().numpy())
    print(json.dumps({"stages": stages, "memory": growth.mib, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
