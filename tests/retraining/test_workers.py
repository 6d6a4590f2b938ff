"""Users' training functions: order, processes, what is kept and what is said."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import trainings
import upweight as uw
from problems import close
from processes import wait_for
from upweight import files
from upweight.errors import DamagedFileWarning, InputError, NotConvergedWarning, UpweightWarning
from upweight.executors import InProcess
from upweight.files import NotWrittenError
from upweight.retraining import TrainingFailedError, random_halves, train_many

JOBS = [(half, seed) for seed, half in enumerate(random_halves(20, 5, seed=3))]
MODEL = nn.Linear(3, 1)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


EXPECTED = torch.stack([flat(trainings.least_squares(*job)) for job in JOBS])


def test_the_models_are_those_of_the_function_in_the_order_of_the_jobs() -> None:
    trained = train_many(trainings.least_squares, JOBS, model=MODEL)
    close(trained.params, EXPECTED)
    assert trained.seeds == (0, 1, 2, 3, 4)
    assert all(torch.equal(own, half) for own, (half, _) in zip(trained.subsets, JOBS, strict=True))
    close(flat(trained.model(3)), EXPECTED[3])
    expected = [(trained.model(j)(trainings.X) - trainings.Y).square().squeeze(1) / 2 for j in range(5)]
    close(trained.losses(uw.losses.SquaredError(), (trainings.X, trainings.Y)), torch.stack(expected).detach())


def test_closures_go_to_forked_processes() -> None:
    scale = 2.0
    trained = train_many(lambda indices, seed: scale * EXPECTED[seed], JOBS, model=MODEL, workers=2)
    close(trained.params, 2 * EXPECTED)


def test_closures_are_refused_where_processes_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(InputError, match="top level of a module"):
        train_many(lambda indices, seed: EXPECTED[seed], JOBS, model=MODEL, workers=2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [ValueError("no such luck"), SystemExit("no such luck")])
def test_after_a_failure_only_what_is_missing_is_trained(tmp_path: Path, workers: int, error: BaseException) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    (tmp_path / "fatal").touch()

    def train(indices: Tensor, seed: int) -> Tensor:
        if seed == 3 and (tmp_path / "fatal").exists():
            raise error
        (calls / str(seed)).open("x")  # fails where it is trained twice
        return EXPECTED[seed]

    with pytest.raises(
        TrainingFailedError, match=r"(?s)job 3, seed 3, on 10 examples \[.*no such luck.*finished before are kept in"
    ) as told:
        train_many(train, JOBS, model=MODEL, workers=workers, folder=tmp_path / "models")
    assert str(JOBS[3][0][0].item()) in str(told.value)
    finished = {path.name for path in calls.iterdir()}
    assert {"0", "1"} <= finished <= {"0", "1", "2", "4"}
    assert len(list((tmp_path / "models").iterdir())) == len(finished)
    (tmp_path / "fatal").unlink()
    trained = train_many(train, JOBS, model=MODEL, workers=workers, folder=tmp_path / "models")
    close(trained.params, EXPECTED)


@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_failure_none_is_begun(tmp_path: Path, workers: int) -> None:
    def train(indices: Tensor, seed: int) -> Tensor:
        (tmp_path / str(seed)).touch()
        if seed == 0:  # once the others have begun, however long that takes a process
            while len(list(tmp_path.iterdir())) < workers:
                time.sleep(0.01)
            raise ValueError("no such luck")
        time.sleep(0.5)
        return EXPECTED[0]

    with pytest.raises(TrainingFailedError) as told:
        train_many(train, [(JOBS[0][0], seed) for seed in range(10)], model=MODEL, workers=workers)
    assert {path.name for path in tmp_path.iterdir()} == {str(seed) for seed in range(workers)}
    assert "kept" not in str(told.value)  # there is no folder


def test_nothing_is_said_to_be_kept_where_nothing_is(tmp_path: Path) -> None:
    def train(indices: Tensor, seed: int) -> Tensor:
        raise ValueError("no such luck")

    with pytest.raises(TrainingFailedError) as told:
        train_many(train, JOBS, model=MODEL, folder=tmp_path / "models")
    assert "kept" not in str(told.value)
    assert not (tmp_path / "models").exists()


def test_fresh_processes_share_the_threads_and_one_that_dies_loses_no_finished_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    (tmp_path / "fatal").write_text("4")
    train = partial(trainings.recorded, str(tmp_path))
    with pytest.raises(TrainingFailedError, match="its process died"):
        train_many(train, JOBS, model=MODEL, workers=2, folder=tmp_path / "models")
    marks = [path.read_text() for path in tmp_path.glob("trained-*")]
    assert all(text.startswith("3 threads in process") for text in marks)
    finished = len(list((tmp_path / "models").glob("*.pt")))
    assert finished >= 3
    (tmp_path / "fatal").unlink()
    close(train_many(train, JOBS, model=MODEL, folder=tmp_path / "models").params, EXPECTED)
    here = [path for path in tmp_path.glob("trained-*") if path.read_text().endswith(f"process {os.getpid()}")]
    assert len(here) == len(JOBS) - finished


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: whole.partition(b"\n")[2],
        lambda whole: whole[:-500] + bytes([whole[-500] ^ 1]) + whole[-499:],
        lambda whole: whole[:700] + bytes([whole[700] ^ 64]) + whole[701:],
    ],
    ids=["cut", "empty", "of an earlier version", "a bit near the end", "a bit in the numbers"],
)
def test_a_damaged_model_is_named_and_trained_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    before = {path: path.read_bytes() for path in kept(tmp_path)}
    broken = kept(tmp_path)[2]
    broken.write_bytes(damage(before[broken]))
    with pytest.warns(DamagedFileWarning, match=re.escape(str(broken))):
        trained = train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    close(trained.params, EXPECTED)
    close(train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path).params, EXPECTED)
    assert kept(tmp_path) == sorted(before)


def test_a_changed_function_trains_anew_and_says_what_is_left(tmp_path: Path) -> None:
    scale = 1.0

    def train(indices: Tensor, seed: int) -> Tensor:
        return scale * EXPECTED[seed]

    close(train_many(train, JOBS, model=MODEL, folder=tmp_path).params, EXPECTED)
    scale = 2.0
    with pytest.warns(UpweightWarning, match="5 files .* are models of another training function"):
        close(train_many(train, JOBS, model=MODEL, folder=tmp_path).params, 2 * EXPECTED)
    assert len(kept(tmp_path)) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_names_the_file_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    train_many(trainings.least_squares, JOBS[:2], model=MODEL, folder=tmp_path)

    def full(place: object, *_: object, **__: object) -> None:
        raise NotWrittenError(f"{place}: can't be written (No space left on device)")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write", full)
        patched.setattr("upweight.retraining.workers._context", lambda run: multiprocessing.get_context("fork"))
        with pytest.raises(NotWrittenError, match=r"\.pt: can't be written \(No space"):
            train_many(trainings.least_squares, JOBS, model=MODEL, workers=workers, folder=tmp_path)
    assert len(kept(tmp_path)) == 2
    close(train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path).params, EXPECTED)


def test_a_folder_that_can_not_be_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotWrittenError, match="file is no folder"):
        train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path / "file" / "x")


RUN = """
import sys
from functools import partial
import torch
import trainings
from upweight.retraining import train_many
if __name__ == "__main__":
    jobs = [(torch.arange(5), seed) for seed in range(6)]
    print("ready", flush=True)
    train = partial(trainings.slow, sys.argv[1])
    train_many(train, jobs, model=torch.nn.Linear(3, 1), workers=2, folder=sys.argv[1] + "/models")
"""


@pytest.mark.parametrize(
    ("signals", "waits"),
    [([signal.SIGINT], True), ([signal.SIGINT, signal.SIGINT], False), ([signal.SIGTERM], False)],
    ids=["Ctrl-C", "Ctrl-C twice", "terminated"],
)
def test_an_interrupt_keeps_what_is_done_and_ends_what_runs(
    tmp_path: Path, signals: list[signal.Signals], waits: bool
) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(list(tmp_path.glob("begun-*"))) >= 2)
    for number, each in enumerate(signals):
        if number:
            time.sleep(0.5)
        # As a terminal does it: to the whole group.
        (os.killpg if each == signal.SIGINT else os.kill)(process.pid, each)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: not group_lives(process.pid))
    begun, ended = (len(list(tmp_path.glob(f"{word}-*"))) for word in ("begun", "ended"))
    if signals[0] == signal.SIGINT:
        assert "waiting for 2 trainings that have begun" in told
        assert told.count("KeyboardInterrupt") <= 2  # our own, and none of the workers'
    assert (begun, ended) == ((2, 2) if waits else (2, 0))
    assert len(kept(tmp_path / "models")) == ended


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_half_written_file_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(draft: Path, place: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    train_many(trainings.least_squares, JOBS[:1], model=MODEL, folder=tmp_path)
    (whole,) = tmp_path.iterdir()
    whole.rename(tmp_path / f".{whole.name}.0.draft")
    (tmp_path / f".{whole.name}.0.draft").write_bytes(b"half")
    close(train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path).params, EXPECTED)


def test_the_same_subset_in_another_order_is_another_training(tmp_path: Path) -> None:
    half = JOBS[0][0]
    jobs = [(half, 0), (half.flip(0), 0), (half, 1), (half, 0)]
    log = tmp_path / "log"
    log.touch()

    def seen() -> list[tuple[list[int], int]]:
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()]

    def train(indices: Tensor, seed: int) -> Tensor:
        with log.open("a") as file:
            print(json.dumps((indices.tolist(), seed)), file=file)
        return torch.full((4,), float(len(seen())))

    trained = train_many(train, jobs, model=MODEL, folder=tmp_path)
    assert seen() == [(half.tolist(), 0), (half.flip(0).tolist(), 0), (half.tolist(), 1)]
    assert trained.params[:, 0].tolist() == [1, 2, 3, 1]
    assert train_many(train, jobs[::-1], model=MODEL, folder=tmp_path).params[:, 0].tolist() == [1, 3, 2, 1]
    assert len(seen()) == 3


def test_dropout_and_batch_norm_are_kept_with_their_buffers(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def train(indices: Tensor, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = build()
        model(trainings.X[indices])
        return model

    for _ in range(2):  # trained, and read back
        trained = train_many(train, JOBS[:2], model=build(), folder=tmp_path)
        for j, job in enumerate(JOBS[:2]):
            expected = train(*job).eval()(trainings.X)
            close(trained.model(j)(trainings.X).detach(), expected.detach())
            close(
                trained.losses(lambda model, batch: model(batch[0])[:, 0], (trainings.X,))[j], expected[:, 0].detach()
            )


def test_refuses_a_folder_of_another_architecture(tmp_path: Path) -> None:
    train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    with pytest.raises(InputError, match="another architecture"):
        train_many(trainings.least_squares, JOBS, model=nn.Linear(1, 3), folder=tmp_path)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (nn.Linear(3, 2), r"differs from model in \['bias', 'weight'\]"),
        (torch.ones(3), r"\[4\]; got shape \(3,\)"),
        (None, "got NoneType"),
    ],
)
def test_refuses_what_is_no_such_model(result: object, words: str) -> None:
    with pytest.raises(TrainingFailedError, match=words):
        train_many(lambda indices, seed: result, JOBS, model=MODEL)


def test_says_which_models_diverged() -> None:
    with pytest.warns(NotConvergedWarning, match="1 of 5 models diverged .* number 2 with seed 2"):
        train_many(lambda indices, seed: EXPECTED[seed] / (seed != 2), JOBS, model=MODEL)


def test_refuses_an_impossible_number_of_processes() -> None:
    with pytest.raises(InputError, match="workers"):
        train_many(trainings.least_squares, JOBS, model=MODEL, workers=-1)


def test_an_executor_in_place_of_workers(tmp_path: Path) -> None:
    def train(indices: Tensor, seed: int) -> Tensor:
        return EXPECTED[seed]

    jobs = [(JOBS[0][0], seed) for seed in range(len(EXPECTED))]
    close(train_many(train, jobs, model=MODEL, executor=InProcess()).params, EXPECTED)
    with pytest.raises(InputError, match="workers: got 2 beside an executor"):
        train_many(train, jobs, model=MODEL, executor=InProcess(), workers=2)
