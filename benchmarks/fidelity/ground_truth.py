"""Retraining on random halves: what every system's scores are held against, and the problem file of each task.

    python -m benchmarks.fidelity.ground_truth run cifar-cnn       # every training that is still missing, then gather
    python -m benchmarks.fidelity.ground_truth gather cifar-cnn    # write the problem from the trainings done so far

Each finished training is stored at once, so a run that is killed goes on where it was. Ground truths of other days
can be read instead of made: ``--ground-truths FOLDER`` (or ``$UPWEIGHT_GROUND_TRUTHS``) with files as `existing` says.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.fidelity import data, tasks
from benchmarks.fidelity.models import RETRAINED
from benchmarks.fidelity.stored import FOLDER, path, read, store
from upweight.progress import track

FURTHER_SEEDS = 4
"""Models trained on all data besides the one that is explained, for methods that average over models."""

CHECKPOINTS = 5


@dataclass(frozen=True)
class Job:
    """One training: on half number ``subset``, or on all data where that is None."""

    task: str
    seed: int
    subset: int | None

    @property
    def path(self) -> Path:
        """Where its result is kept; a changed recipe has a folder of its own."""
        recipe = hashlib.sha256(repr(tasks.RECIPES[self.task]).encode()).hexdigest()[:8]
        which = "all" if self.subset is None else f"half-{self.subset:03d}"
        return FOLDER / "trainings" / f"{self.task}-{recipe}" / f"{which}-seed-{self.seed}.npz"


def halves(task: str) -> np.ndarray:
    """The random halves of the training examples, int64 ``[subsets, n/2]``, each sorted."""
    n, rng = data.read(task).n, np.random.default_rng(0)
    return np.stack([np.sort(rng.permutation(n)[: n // 2]) for _ in range(tasks.RECIPES[task].subsets)])


def jobs(task: str, *, with_halves: bool = True) -> list[Job]:
    """All trainings, ordered so that those finished first are of most use: seed by seed, all data before halves."""
    recipe = tasks.RECIPES[task]
    subsets = range(recipe.subsets) if with_halves else ()
    whole = [Job(task, seed, None) for seed in range(1 + FURTHER_SEEDS)]
    by_seed = [[Job(task, seed, subset) for subset in subsets] for seed in range(recipe.seeds)]
    return [whole[0], *by_seed[0], *whole[1:], *(job for later in by_seed[1:] for job in later)]


def perform(job: Job) -> None:
    """Train and store: the query losses on a half; on all data the parameters, and for seed 0 its checkpoints."""
    if job.subset is not None:
        state = tasks.train(job.task, halves(job.task)[job.subset], job.seed)
        store(job.path, {"losses": tasks.query_losses(job.task, state).numpy()})
        return
    arrays: dict[str, np.ndarray] = {}
    passed, rates = 0, []
    for done, epoch in enumerate(tasks.epochs(job.task, range(data.read(job.task).n), job.seed), start=1):
        rates.append(epoch.rate)
        if done * CHECKPOINTS // tasks.RECIPES[job.task].epochs > passed:
            arrays |= _named(f"checkpoint_{passed}_param", epoch.model)
            arrays[f"checkpoint_{passed}_lr"] = np.float32(np.mean(rates))
            passed, rates = passed + 1, []
    arrays = (arrays if job.seed == 0 else {}) | _named("param", epoch.model)
    store(job.path, arrays)


def run(task: str, processes: int, *, with_halves: bool = True) -> None:
    """Do every training that isn't stored yet, in worker processes with one thread each."""
    missing = [job for job in jobs(task, with_halves=with_halves) if not job.path.exists()]
    with ProcessPoolExecutor(processes, initializer=_one_thread) as pool:
        pending = [pool.submit(perform, job) for job in missing]
        try:
            for finished in track(as_completed(pending), f"trainings of {task}", total=len(pending)):
                finished.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else the error shows after all others are done
            raise


def gather(task: str, ground_truths: Path | None = None) -> Path:
    """Write the problem from the trainings that are stored.

    Halves count once their seed-0 model is there, and a further seed once it is there for all of those.

    Its arrays: ``x_train``, ``y_train``, ``x_test``, ``y_test``; ``subsets`` [S, n/2] and ``losses`` [S, seeds, m];
    ``l2``; ``param_j``, the model explained, in the order of ``parameters()``; ``seed_k_param_j``, further models of
    all data; ``checkpoint_k_param_j``, the model explained after each fifth of its training, the last its end; and
    ``checkpoint_lr``, the mean learning rate of each fifth.

    Raises
    ------
    SystemExit
        If the model on all data isn't there yet.
    """
    explained = Job(task, 0, None).path
    if not explained.exists():
        raise SystemExit(f"{task}: not trained yet; python -m benchmarks.fidelity.ground_truth run {task}")
    arrays = {name: tensor.numpy() for name, tensor in vars(data.read(task)).items()}
    arrays["l2"] = np.float64(tasks.RECIPES[task].l2)
    model = read(explained)
    arrays["checkpoint_lr"] = np.array([model.pop(f"checkpoint_{k}_lr") for k in range(CHECKPOINTS)])
    arrays |= model
    for seed in range(1, 1 + FURTHER_SEEDS):
        file = Job(task, seed, None).path
        arrays |= {f"seed_{seed}_{name}": value for name, value in read(file).items()} if file.exists() else {}
    arrays |= existing(task, ground_truths) or retrained(task)
    store(path(task), arrays)
    return path(task)


def retrained(task: str) -> dict[str, np.ndarray]:
    """Halves and losses of the trainings stored so far."""
    recipe = tasks.RECIPES[task]
    first = [subset for subset in range(recipe.subsets) if Job(task, 0, subset).path.exists()]
    seeds = [s for s in range(recipe.seeds) if all(Job(task, s, subset).path.exists() for subset in first)]
    losses = [[read(Job(task, seed, subset).path)["losses"] for seed in seeds] for subset in first]
    shape = (len(first), len(seeds), len(data.read(task).y_test))
    return {"subsets": halves(task)[first], "losses": np.array(losses, np.float32).reshape(shape)}


def existing(task: str, folder: Path | None) -> dict[str, np.ndarray] | None:
    """Halves, losses and the model explained, of another day: ``FOLDER/<task with _ for ->_lds.npz``.

    The recipe gives that model too, up to rounding: the checkpoints, which are ours, are on the way to it.

    Raises
    ------
    SystemExit
        If the digits of that file are in another order than ours.
    """
    file = None if folder is None else folder / f"{task.replace('-', '_')}_lds.npz"
    if file is None or not file.exists():
        return None
    arrays = read(file)
    order = arrays.pop("permutation", None)
    if order is not None and not np.array_equal(order, data.digits_order()):
        raise SystemExit(f"{file}: its permutation isn't the one that this benchmark uses")
    return arrays | {"subsets": arrays["subsets"].astype(np.int64)}


def _named(prefix: str, model: torch.nn.Module) -> dict[str, np.ndarray]:
    values = (parameter.detach().contiguous().numpy().copy() for parameter in model.parameters())
    return {f"{prefix}_{j}": value for j, value in enumerate(values)}


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # momenta decay into denormals, which take many times as long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "gather"))
    parser.add_argument("task", choices=RETRAINED)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ground-truths", type=Path, default=os.environ.get("UPWEIGHT_GROUND_TRUTHS"))
    options = parser.parse_args()
    folder = Path(options.ground_truths) if options.ground_truths else None
    if options.action == "run":
        run(options.task, options.processes, with_halves=existing(options.task, folder) is None)
    print(gather(options.task, folder))


if __name__ == "__main__":
    main()
