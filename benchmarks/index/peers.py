"""Seconds that a peer's own projector takes on a CPU:
``python -m benchmarks.index.peers trak PROBLEM.npz``, one JSON line.

Runs in the peer's environment, where there is no upweight. Gradients are written out before anything is timed; process
seconds of one thread.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

from benchmarks.fidelity import models

EXAMPLES = 500
"""Written out they take 470 MB."""
DIMENSIONS = (1024, 4096)


def gradients(file: str, examples: int) -> torch.Tensor:
    """Per-example gradients of *mnist-mlp*, ``[examples, p]``."""
    with np.load(file) as arrays:
        model = models.build("mnist-mlp")
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                parameter.copy_(torch.from_numpy(arrays[f"param_{number}"]))
        x, y = (torch.from_numpy(arrays[name][:examples]) for name in ("x_train", "y_train"))
    named = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], one: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(model, parameters, (one[None],))
        return models.loss_of_outputs(outputs, label[None])[0]

    each = vmap(grad(loss), (None, 0, 0))(named, x, y)
    return torch.cat([value.flatten(1) for value in each.values()], dim=1)


def projector(peer: str, p: int, dimension: int) -> Any:
    """The peer's projector for a CPU, as a function of gradients."""
    if peer == "trak":
        from trak.projectors import BasicProjector, ProjectionType

        kind = BasicProjector(p, dimension, 0, ProjectionType.rademacher, torch.device("cpu"))
        return lambda rows: kind.project(rows, model_id=0)
    from dattri.func.projection import random_project

    some = torch.zeros(EXAMPLES, p)
    return random_project(some, EXAMPLES, dimension, 32, proj_seed=0, proj_type="rademacher", device="cpu")


def main() -> None:
    peer, file = sys.argv[1:]
    torch.set_num_threads(1)
    held = gradients(file, EXAMPLES)
    found: dict[str, Any] = {"examples": EXAMPLES}
    for dimension in DIMENSIONS:
        start = time.process_time()
        project = projector(peer, held.shape[1], dimension)
        made = time.process_time()
        rows = project(held)
        found[str(dimension)] = {"made": made - start, "projected": time.process_time() - made}
        assert tuple(rows.shape) == (EXAMPLES, dimension)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
