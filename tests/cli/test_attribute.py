"""`upweight attribute` and `resume`: the scores of one call, by whoever they are made, however often they are begun."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from processes import lives, wait_for
from upweight import study as studies
from upweight.influence import Influence
from upweight.stored import Stored

from .conftest import Run
from .jobs import begin, ended, scores, write

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")

Answer = Callable[..., dict[str, Any]]


def refused(run: Run, *arguments: object) -> str:
    result = run(*arguments, "--json")
    assert result.exit_code == 1, result.output
    message: str = json.loads(result.stdout)["error"]["message"]
    return message


def expected(study: Path, **options: Any) -> np.ndarray:
    given = studies.load(study)
    return np.asarray(Influence(given.objective).attribute(given.queries, **options).scores)


def test_scores_are_those_of_one_call(answer: Answer, run: Run, tmp_path: Path) -> None:
    study = write(tmp_path)
    found = answer("attribute", "mine.py", "--out", "store", "--shard-size", 7)
    assert found["state"] == "finished"
    assert found["shape"] == [6, 40]
    assert found["shards"] == {"done": 6, "total": 6}
    assert found["columns"] == ["text", "length"]
    assert found["study"] == str(study)
    np.testing.assert_allclose(scores(tmp_path / "store"), expected(study), rtol=1e-4, atol=1e-7)
    stored = Stored.open(tmp_path / "store")
    assert stored.query_ids.tolist() == [f"q{k}" for k in range(6)]
    assert stored.columns["text"][3] == "text 3"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    assert answer("attribute", "mine.py", "--out", "store", "--shard-size", 7)["state"] == "finished"
    assert answer("resume", "store")["state"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before
    shown = run("attribute", "mine.py", "-o", "store", "--shard-size", 7)
    assert "upweight query" in shown.stdout
    assert "finished" in shown.stdout


def test_options_are_those_of_the_library(answer: Answer, tmp_path: Path) -> None:
    study = write(tmp_path)
    options = ["--inverse", "EKFAC", "--damping", "0.5", "--quantity", "upweight", "--measurement", "margin"]
    found = answer("attribute", "mine.py", "-o", "store", *options, "--columns", "length")
    assert found["damping"] == 0.5
    assert found["columns"] == ["length"]
    given = studies.load(study)
    from upweight.inverse import EKFAC

    each = Influence(given.objective, EKFAC(damping=0.5))
    one = each.attribute(given.queries, quantity="upweight", measurement="margin").scores
    np.testing.assert_allclose(scores(tmp_path / "store"), one, rtol=1e-4, atol=1e-7)
    few = answer("attribute", "mine.py", "-o", "few", "--top-k", 3, "--columns", "none", "--seed", 3)
    assert few["top_k"] == 3
    assert few["columns"] == []
    own = answer("attribute", "mine.py", "-o", "own", "--self-influence")
    assert own["shape"] == [40]


@pytest.mark.parametrize(("own", "workers"), [({}, 2), ({"data": "(x, y)"}, 1)])
def test_workers_know_the_study_s_own_classes(own: dict[str, str], workers: int, tmp_path: Path) -> None:
    study = write(tmp_path, **own)
    code, found, errors = ended(
        begin("attribute", study, "-o", "store", "--shard-size", 7, "--workers", workers, "--json", folder=tmp_path)
    )
    assert code == 0, (found, errors)
    assert found["workers"] == workers
    np.testing.assert_allclose(scores(tmp_path / "store"), expected(study), rtol=1e-4, atol=1e-7)


UNSENDABLE = {"loss": "Softened() if False else (lambda model, batch: torch.nn.functional.mse_loss(model(batch[0]), torch.eye(3)[batch[1]], reduction='none').sum(1))"}  # noqa: E501  # fmt: skip


def test_what_cannot_be_sent_is_made_by_the_study_in_each_worker(tmp_path: Path) -> None:
    study = write(tmp_path, **UNSENDABLE)
    code, found, errors = ended(
        begin("attribute", study, "-o", "store", "--shard-size", 7, "--workers", 1, "--json", folder=tmp_path)
    )
    assert code == 0, (found, errors)
    np.testing.assert_allclose(scores(tmp_path / "store"), expected(study), rtol=1e-4, atol=1e-7)
    write(tmp_path, **UNSENDABLE, seed="os.getpid()")
    code, found, errors = ended(
        begin("attribute", study, "-o", "other", "--shard-size", 7, "--workers", 1, "--json", folder=tmp_path)
    )
    assert code == 1
    message = found["error"]["message"]
    assert "mine.py: study() gives another model" in message
    assert "a worker on" in message
    assert "lambda" in message


def test_a_worker_that_cannot_run_the_study_is_told(tmp_path: Path) -> None:
    import_error = "__import__('multiprocessing').parent_process() and __import__('no_such_module')"
    study = write(tmp_path, parent=import_error)
    process = begin("attribute", study, "-o", "store", "--workers", 1, "--json", folder=tmp_path)
    code, found, errors = ended(process)
    assert code == 1, errors
    message = found["error"]["message"]
    assert message.startswith("a worker on ")
    assert "mine.py, line 9, in <module>: ModuleNotFoundError: No module named 'no_such_module'" in message


THIRD = "Path('store/committed/part-000002.json').exists()"
WAITS = f"(Path('begun').touch(), time.sleep(60)) if Path('slow').exists() and {THIRD} else None"


@pytest.mark.parametrize(("sent", "kind"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")])
def test_an_early_end_says_what_is_kept_and_resume_goes_on(
    sent: signal.Signals, kind: str, answer: Answer, tmp_path: Path
) -> None:
    study = write(tmp_path, item=WAITS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "slow").touch()
    process = begin("attribute", study, "-o", "store", "--shard-size", 7, "--json", folder=tmp_path)
    wait_for((tmp_path / "begun").exists)
    process.send_signal(sent)
    code, found, errors = ended(process)
    assert code == 128 + sent, errors
    assert found["error"]["kind"] == kind
    store = tmp_path / "store"
    assert (
        f"; 3 of 6 shards are done and kept, `upweight resume {store}` goes on with the others"
        in (found["error"]["message"])
    )
    (tmp_path / "slow").unlink()
    told = answer("info", "store")
    assert told["state"] == "stopped"
    assert told["shards"] == {"done": 3, "total": 6}
    assert told["examples"] == {"done": 21, "total": 40}
    code, found, errors = ended(begin("resume", store, "--json", folder=elsewhere))
    assert code == 0, (found, errors)
    log = [json.loads(line) for line in (store / "log.jsonl").read_text().splitlines()]
    assert sorted(line["shard"] for line in log if line["event"] == "shard") == list(range(6))
    answer("attribute", study, "-o", "whole", "--shard-size", 7)
    assert np.array_equal(scores(store), scores(tmp_path / "whole"))


def test_a_study_that_has_changed_is_refused_where_it_gives_something_else(run: Run, tmp_path: Path) -> None:
    study = write(tmp_path)
    assert run("attribute", study, "-o", "store").exit_code == 0
    marker = tmp_path / "store" / "result.json"
    kept = marker.read_bytes()
    marker.unlink()
    write(tmp_path, seed="5")
    message = refused(run, "resume", "store")
    assert "begun with model=" in message
    assert "another θ" in message
    study.write_text(study.read_text().replace("manual_seed(5)", "manual_seed(0)") + "# a remark\n")
    shown = run("resume", "store")
    assert shown.exit_code == 0, shown.output
    assert "has changed since the job began" in " ".join(shown.output.split())
    assert marker.read_bytes() == kept
    study.unlink()
    assert "is no more" in refused(run, "resume", "store")


def test_a_place_of_something_else_is_refused_before_the_study_is_read(run: Run, tmp_path: Path) -> None:
    study = write(tmp_path)
    assert run("attribute", study, "-o", "store").exit_code == 0
    study.write_text("raise AssertionError('read')\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    other = tmp_path / "other.py"
    shutil.copy(study, other)
    wrong = {
        ("-o", "mine"): "holds 'photo.jpg', and no job of upweight's",
        ("-o", "store", "--top-k", "3"): "begun with top-k left to its default, and this command has top-k 3",
        ("-o", "store", "--damping", "0.1"): "this command has damping 0.1; give another --out, or go on with",
        ("-o", "new", "--ray", "auto", "--slurm", "timeout_min=3"): "--ray and --slurm: give one of them",
        ("-o", "new", "--slurm", "timeout_min=3"): "--slurm: say how many jobs, with --workers N",
        ("-o", "new", "--slurm", "fast", "-w", "2"): "--slurm: give NAME=VALUE, such as timeout_min=60; got 'fast'",
        ("-o", "new", "--slurm", "nonsense=3", "-w", "2"): "submitit refuses",
        ("-o", "new", "--damping", "much"): "--damping: give a number ≥ 0, or auto; got 'much'",
        ("-o", "new", "--damping", "nan"): "--damping: give a number ≥ 0, or auto; got 'nan'",
        ("-o", "new", "--inverse", "Magic"): "--inverse: one of 'CG'",
        ("-o", "new", "--measurement", "joy"): "--measurement: one of 'loss'",
        ("-o", "new", "--quantity", "joy"): "--quantity: one of 'removal'",
        ("-o", "new", "--precision", "joy"): "--precision: one of 'float32'",
        ("-o", "new", "--self-influence", "--quantity", "upweight"): "--self-influence: ",
    }
    for options, words in wrong.items():
        assert words in refused(run, "attribute", study, *options), options
    assert "with study " in refused(run, "attribute", other, "-o", "store")
    assert not (tmp_path / "new").exists()
    assert "is no study file" in refused(run, "attribute", "people.csv", "-o", "new")
    assert "can't be read (No such file or directory)" in refused(run, "attribute", "none.py", "-o", "new")


def test_columns_and_inverses_that_do_not_fit_are_refused(run: Run, tmp_path: Path) -> None:
    study = write(tmp_path)
    assert "no column 'title'; it has text, length" in refused(run, "attribute", study, "-o", "a", "--columns", "title")
    assert "Identity has none" in refused(run, "attribute", study, "-o", "b", "--inverse", "Identity", "--damping", "1")


def test_what_resume_cannot_go_on_with(run: Run, tmp_path: Path) -> None:
    study = write(tmp_path)
    assert "holds no store" in refused(run, "resume", "none")
    given = studies.load(study)
    Influence(given.objective).attribute(given.queries, store=tmp_path / "library")
    assert "was begun by a Python program" in refused(run, "resume", "library")
    assert run("attribute", study, "-o", "store").exit_code == 0
    command = tmp_path / "store" / "command.json"
    command.write_bytes(command.read_bytes()[:-3])
    assert "command.json" in refused(run, "resume", "store")


@pytest.mark.parametrize(("name", "options"), [("ray", ["--ray", "auto"]), ("submitit", ["--slurm", "a=1", "-w", "2"])])
def test_a_missing_extra_is_named_with_its_line(
    name: str, options: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write(tmp_path)
    monkeypatch.setitem(sys.modules, name, None)
    extra = {"ray": "ray", "submitit": "slurm"}[name]
    assert f"pip install 'upweight[{extra}]'" in refused(run, "attribute", study, "-o", "store", *options)


def test_slurm_by_submitit_s_own_processes(tmp_path: Path) -> None:
    study = write(tmp_path)
    options = ["--slurm", "cluster=local", "--slurm", "timeout_min=5", "--workers", 2, "--shard-size", 9]
    code, found, errors = ended(begin("attribute", study, "-o", "store", *options, "--json", folder=tmp_path))
    assert code == 0, (found, errors)
    np.testing.assert_allclose(scores(tmp_path / "store"), expected(study), rtol=1e-4, atol=1e-7)
    assert (tmp_path / "store.slurm").is_dir()


def test_a_local_ray(tmp_path: Path) -> None:
    study = write(tmp_path)
    options = ["--ray", "local", "--workers", 1, "--shard-size", 9]
    code, found, errors = ended(begin("attribute", study, "-o", "store", *options, "--json", folder=tmp_path))
    assert code == 0, (found, errors)
    np.testing.assert_allclose(scores(tmp_path / "store"), expected(study), rtol=1e-4, atol=1e-7)


def test_info_says_who_works_and_a_second_worker_is_refused(answer: Answer, run: Run, tmp_path: Path) -> None:
    study = write(tmp_path, item=WAITS)
    (tmp_path / "slow").touch()
    options = ["-o", "store", "--shard-size", 7]
    process = begin("attribute", study, *options, folder=tmp_path)
    wait_for((tmp_path / "begun").exists)
    found = answer("info", "store")
    assert found["state"] == "running"
    assert found["worked_on_by"].startswith(f"{process.pid} on ")
    assert "running (process" in run("info", "store").stdout
    (tmp_path / "slow").unlink()
    assert "another process" in refused(run, "resume", "store")
    process.kill()
    process.communicate()
    assert not lives(process.pid)
    assert answer("info", "store")["state"] == "stopped"
    assert "is stopped, at 3 of 6 shards" in refused(run, "query", "store")
    assert answer("resume", "store")["state"] == "finished"


TRAINS = """
import os, time
import torch
import upweight as uw

def squared(model, batch):
    return ((model(batch[0]) - batch[1][:, None]) ** 2).sum(1)

def study():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    y = x[:, 0].sin()
    torch.manual_seed(time.time_ns() % 2**31)
    model = torch.nn.Linear(4, 1, dtype=torch.float64)
    objective = uw.Objective(model, {loss}, (x, y), l2=0.1)
    fitted = uw.retraining.fit(objective)
    return fitted.at(fitted.params + 1e-10 * torch.randn(fitted.p, dtype=torch.float64)), (x[:3], y[:3])
"""


def test_a_study_that_trains_anew_is_gone_on_with_at_the_theta_of_the_job(run: Run, tmp_path: Path) -> None:
    study = tmp_path / "mine.py"
    study.write_text(TRAINS.format(loss="squared"))
    one, two = (studies.load(study).objective.params for _ in range(2))
    assert not np.array_equal(one, two)
    assert run("attribute", study, "-o", "store", "--shard-size", 9).exit_code == 0
    before = scores(tmp_path / "store")
    (tmp_path / "store" / "result.json").unlink()
    (tmp_path / "store" / "committed" / "scores-000003.json").unlink()
    shown = run("resume", "store")
    assert shown.exit_code == 0, shown.output
    assert np.array_equal(scores(tmp_path / "store"), before)
    study.write_text(TRAINS.format(loss="squared").replace("l2=0.1", "l2=0.2"))
    assert "another θ" in refused(run, "resume", "store")
    block = tmp_path / "store" / "blocks" / "theta"
    block.write_bytes(block.read_bytes()[:-1])
    assert "block theta" in refused(run, "resume", "store")


def test_so_it_is_in_workers_that_train_anew(tmp_path: Path) -> None:
    study = tmp_path / "mine.py"
    study.write_text(TRAINS.format(loss="lambda model, batch: squared(model, batch)"))
    process = begin("attribute", study, "-o", "store", "--workers", 1, "--json", folder=tmp_path)
    code, found, errors = ended(process)
    assert code == 0, (found, errors)
    np.testing.assert_allclose(scores(tmp_path / "store"), expected(study), rtol=1e-4, atol=1e-9)
