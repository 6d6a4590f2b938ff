"""Users' training functions: order, processes, what is kept and what is said."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import trainings
import upweight as uw
from problems import close
from upweight.messages import InputError, NotConvergedWarning
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
def test_after_a_failure_only_what_is_missing_is_trained(tmp_path: Path, workers: int) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()

    def train(indices: Tensor, seed: int, fatal: int | None = 3) -> Tensor:
        if seed == fatal:
            raise ValueError("no such luck")
        (calls / str(seed)).open("x")  # fails where it is trained twice
        return EXPECTED[seed]

    with pytest.raises(
        TrainingFailedError, match=r"(?s)job 3, seed 3, on 10 examples \[.*no such luck.*kept in"
    ) as told:
        train_many(train, JOBS, model=MODEL, workers=workers, folder=tmp_path / "models")
    assert str(JOBS[3][0][0].item()) in str(told.value)
    finished = {path.name for path in calls.iterdir()}
    assert {"0", "1"} <= finished <= {"0", "1", "2", "4"}
    assert len(list((tmp_path / "models").iterdir())) == len(finished)
    trained = train_many(partial(train, fatal=None), JOBS, model=MODEL, workers=workers, folder=tmp_path / "models")
    close(trained.params, EXPECTED)


def test_fresh_processes_share_the_threads_and_one_that_dies_loses_no_finished_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    dying = partial(trainings.recorded, str(tmp_path), 4)
    with pytest.raises(TrainingFailedError, match="its process died"):
        train_many(dying, JOBS, model=MODEL, workers=2, folder=tmp_path / "models")
    marks = [path.read_text() for path in tmp_path.glob("trained-*")]
    assert all(text.startswith("3 threads in process") for text in marks)
    finished = len(list((tmp_path / "models").glob("*.pt")))
    assert finished >= 3
    living = partial(trainings.recorded, str(tmp_path), None)
    close(train_many(living, JOBS, model=MODEL, folder=tmp_path / "models").params, EXPECTED)
    here = [path for path in tmp_path.glob("trained-*") if path.read_text().endswith(f"process {os.getpid()}")]
    assert len(here) == len(JOBS) - finished


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
    seen: list[tuple[list[int], int]] = []

    def train(indices: Tensor, seed: int) -> Tensor:
        seen.append((indices.tolist(), seed))
        return torch.full((4,), float(len(seen)))

    trained = train_many(train, jobs, model=MODEL, folder=tmp_path)
    assert seen == [(half.tolist(), 0), (half.flip(0).tolist(), 0), (half.tolist(), 1)]
    assert trained.params[:, 0].tolist() == [1, 2, 3, 1]
    assert train_many(train, jobs[::-1], model=MODEL, folder=tmp_path).params[:, 0].tolist() == [1, 3, 2, 1]
    assert len(seen) == 3


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
