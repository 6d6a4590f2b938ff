"""Scores by shards are those of one call, whoever makes them, however often they are begun."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from upweight.errors import DamagedFileWarning
from upweight.executors import InProcess, WorkerDiedError
from upweight.store import Local, Memory, Remote

N, QUERIES = 53, 7


def objective(seed: int = 0, **options: Any) -> uw.Objective:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 6, generator=generator)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    y = torch.randint(3, (N,), generator=generator)
    return uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.01, **options)


def queries(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(QUERIES, 6, generator=generator), torch.randint(3, (QUERIES,), generator=generator)


def influence(inverse: Any = None, **options: Any) -> uw.Influence:
    return uw.Influence(objective(**options), uw.inverse.EKFAC() if inverse is None else inverse)


pytestmark = pytest.mark.filterwarnings("ignore::upweight.NotStationaryWarning")

INVERSES: dict[str, Callable[[], Any]] = {
    "ekfac": uw.inverse.EKFAC,
    "kfac": uw.inverse.KFAC,
    "dual": uw.inverse.Dual,
    "cg": lambda: uw.inverse.CG(uw.curvature.GGN(), damping=0.1),
    "identity": uw.inverse.Identity,
}


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("options", [{}, {"quantity": "upweight"}, {"renormalize": True}, {"train": [3, 50, 4, 20]}])
def test_scores_are_those_of_one_call(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    wide = objective().to(torch.float64)
    expected = uw.Influence(wide, INVERSES[name]()).attribute(queries(), **options)
    each = uw.Influence(wide, INVERSES[name]())
    found = each.attribute(queries(), store=tmp_path / "store", shard_size=8, **options)
    torch.testing.assert_close(found.scores[:, :], expected.scores)
    assert found.quantity == expected.quantity
    assert found.damping == pytest.approx(expected.damping)
    assert found.facts == pytest.approx(expected.facts)
    assert found.magnitude.trusted == (expected.magnitude is not None and expected.magnitude.trusted)
    assert str(found.report).split(":")[0] == str(expected.report).split(":")[0]
    assert found.ids.all().tolist() == expected.ids.tolist()
    again = uw.Stored.open(tmp_path / "store")
    assert torch.equal(again.scores[:, :], found.scores[:, :])
    attribution = again.attribution()
    assert torch.equal(attribution.scores, found.scores[:, :])
    for k in (1, 3, 100):
        for ours, theirs in ((again.top(k), attribution.top(k)), (again.bottom(k), attribution.bottom(k))):
            assert torch.equal(ours.positions, theirs.positions)
            assert torch.equal(ours.scores, theirs.scores)
            assert (ours.ids == theirs.ids).all()
            assert ours.title == theirs.title


def test_the_largest_and_smallest_are_those_of_all_scores(tmp_path: Path) -> None:
    dense = influence().attribute(queries(), store=tmp_path / "dense", shard_size=8)
    few = influence().attribute(queries(), store=tmp_path / "few", shard_size=8, top_k=4)
    assert few.top_k == 4
    for k in (1, 4):
        for ours, theirs in ((few.top(k), dense.top(k)), (few.bottom(k), dense.bottom(k))):
            assert torch.equal(ours.positions, theirs.positions)
            assert torch.equal(ours.scores, theirs.scores)
    with pytest.raises(uw.InputError, match="4 were kept"):
        few.top(5)
    with pytest.raises(uw.InputError, match="4 largest and smallest"):
        _ = few.scores
    left = {path.name for path in (tmp_path / "few" / "blocks").iterdir()}
    assert left == {"extremes"}  # parts are gone


def test_self_influence(tmp_path: Path) -> None:
    for corrected in (False, True):
        inverse = uw.inverse.Dual() if corrected else uw.inverse.EKFAC()
        expected = influence(inverse).self_influence(leverage_corrected=corrected)
        place = tmp_path / str(corrected)
        found = influence(inverse).self_influence(leverage_corrected=corrected, store=place, shard_size=10)
        torch.testing.assert_close(found.scores[:], expected.scores)
        assert found.quantity == expected.quantity
        assert found.top(3).ids.tolist() == expected.top(3).ids.tolist()
        few = influence(inverse).self_influence(
            leverage_corrected=corrected, store=tmp_path / f"few-{corrected}", shard_size=10, top_k=3
        )
        assert torch.equal(few.bottom(3).scores, found.bottom(3).scores)


class _Killed(BaseException):
    pass


class _Dying(InProcess):
    """Ends after some shards of the work of a module, in the middle of another."""

    def __init__(self, after: int, of: str = "jobs.worker"):
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "of", of)

    def run(self, tasks: Any, make_worker: Any) -> Any:
        worker = make_worker()
        mine = type(worker).__module__.endswith(self.of)  # type: ignore[attr-defined]
        for number, task in enumerate(tasks):
            if mine and number == self.after:  # type: ignore[attr-defined]
                raise _Killed
            yield task, worker(task)


class _Deadly(InProcess):
    """Its workers die, as of too little memory."""

    def __init__(self) -> None:
        object.__setattr__(self, "runs", [])

    def run(self, tasks: Any, make_worker: Any) -> Any:
        self.runs.append(1)  # type: ignore[attr-defined]
        raise WorkerDiedError(next(iter(tasks)), 3, "out of memory")
        yield


def test_a_job_whose_workers_die_is_not_begun_again_by_itself(tmp_path: Path) -> None:
    executor = _Deadly()
    with pytest.raises(WorkerDiedError, match="3 times"):
        influence().attribute(queries(), store=tmp_path / "store", shard_size=8, executor=executor)
    assert executor.runs == [1]  # type: ignore[attr-defined]


def contents(place: Path) -> dict[str, bytes]:
    """All that the result is made of."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name not in ("log.jsonl", "lock")]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_what_was_ended_is_gone_on_with_to_the_same_bytes(tmp_path: Path, top_k: int | None, after: int) -> None:
    influence().attribute(queries(), store=tmp_path / "whole", shard_size=8, top_k=top_k)
    place = tmp_path / "store"
    for _ in range(3):
        with pytest.raises(_Killed):
            influence().attribute(queries(), store=place, shard_size=8, top_k=top_k, executor=_Dying(after))
        if after:
            break
    with pytest.raises(uw.InputError, match=f"is at {after} of 7 shards"):
        uw.Stored.open(place)
    influence().attribute(queries(), store=place, top_k=top_k)  # with another size of shards: the store's stays
    assert contents(place) == contents(tmp_path / "whole")
    log = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    done = [line["shard"] for line in log if line["event"] == "shard" and line["job"] == "attribution"]
    assert sorted(done) == list(range(7))  # nothing twice
    assert log[-1]["event"] == "ended"


def test_a_finished_job_is_opened_and_not_done_again(tmp_path: Path) -> None:
    place = tmp_path / "store"
    first = influence().attribute(queries(), store=place)
    before = contents(place)
    second = influence().attribute(queries(), store=place, executor=_Dying(0))
    assert torch.equal(first.scores[:, :], second.scores[:, :])
    assert contents(place) == before
    with pytest.raises(uw.InputError, match="resume=True"):
        influence().attribute(queries(), store=place, resume=False)


@pytest.mark.parametrize("how", ["cut", "altered", "missing", "marker", "marker gone"])
@pytest.mark.parametrize("top_k", [None, 5])
def test_a_damaged_block_is_named_and_done_again(tmp_path: Path, top_k: int | None, how: str) -> None:
    place, whole = tmp_path / "store", tmp_path / "whole"
    influence().attribute(queries(), store=place, shard_size=8, top_k=top_k)
    shutil.copytree(place, whole)
    block = place / ("scores/c/0/2" if top_k is None else "blocks/extremes")
    marker = place / "committed" / ("scores-000002.json" if top_k is None else "extremes.json")
    content = block.read_bytes()
    if how == "cut":
        block.write_bytes(content[:-3])
    elif how == "altered":
        block.write_bytes(content[:10] + bytes([content[10] ^ 1]) + content[11:])
    elif how == "missing":
        block.unlink()
    elif how == "marker":
        marker.write_bytes(marker.read_bytes()[:-4])
    else:
        marker.unlink()
    quiet = how == "marker gone" and top_k is None
    stored = uw.Stored.open(place)
    said = r"scores/c/0/2|scores-000002|extremes"
    with pytest.raises(uw.InputError, match=said), _maybe_warned(how == "marker"):
        _ = stored.scores[:, :] if top_k is None else stored.top(3)
    if how not in ("marker", "marker gone"):
        with pytest.raises(uw.InputError, match=said):
            stored.verify()
    with _maybe_warned(not quiet):
        influence().attribute(queries(), store=place, top_k=top_k)
    assert contents(place) == contents(whole)


def _maybe_warned(expected: bool) -> Any:
    import contextlib

    return pytest.warns(DamagedFileWarning) if expected else contextlib.nullcontext()


def test_a_store_of_something_else_is_refused_by_what_differs(tmp_path: Path) -> None:
    place = tmp_path / "store"
    influence().attribute(queries(), store=place)
    x, y = queries()
    wrong: dict[str, Callable[[], object]] = {
        "model=": lambda: influence(seed=5).attribute(queries(), store=place),
        "ids=": lambda: influence(ids=[f"e{k}" for k in range(N)]).attribute(queries(), store=place),
        "data=": lambda: uw.Influence(
            uw.Objective(objective().model, uw.losses.CrossEntropy(), _moved(objective()), l2=0.01), uw.inverse.EKFAC()
        ).attribute(queries(), store=place),
        "queries=": lambda: influence().attribute((x + 1, y), store=place),
        "inverse=": lambda: influence(uw.inverse.EKFAC(damping=0.1)).attribute(queries(), store=place),
        "quantity=": lambda: influence().attribute(queries(), store=place, quantity="upweight"),
        "top_k=": lambda: influence().attribute(queries(), store=place, top_k=3),
        "train=": lambda: influence().attribute(queries(), store=place, train=[1, 2]),
        "measurement=": lambda: influence().attribute(queries(), store=place, measurement="margin"),
        "kind 'attribution'": lambda: influence().self_influence(store=place),
    }
    before = contents(place)
    for word, call in wrong.items():
        with pytest.raises(uw.InputError, match=word):
            call()
    assert contents(place) == before


def _moved(objective: uw.Objective) -> Any:
    x, y = objective.data.take(list(range(N)))
    return x + 1, y


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(uw.InputError, match="holds no store"):
        uw.Stored.open(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(uw.InputError, match=r"mine\.txt"):
        influence().attribute(queries(), store=tmp_path)
    (tmp_path / "store.json").write_bytes(b"{}")
    with pytest.raises(uw.InputError, match="cut or altered"):
        uw.Stored.open(tmp_path)
    with pytest.raises(uw.InputError, match="goes with a store"):
        influence().attribute(queries(), top_k=3)
    with pytest.raises(uw.InputError, match="columns: text"):
        influence().attribute(queries(), store=tmp_path / "a", columns={"text": ["a"]})
    with pytest.raises(uw.InputError, match="newton_steps"):
        influence().attribute(queries(), store=tmp_path / "a", leverage_corrected=True, newton_steps=2)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("make", [Memory, lambda: Remote("memory://jobs")])
def test_other_places(make: Callable[[], Any], tmp_path: Path) -> None:
    place = make()
    found = influence().attribute(queries(), store=place, shard_size=8)
    expected = influence().attribute(queries(), store=tmp_path / "store", shard_size=8)
    assert torch.equal(found.scores[:, :], expected.scores[:, :])
    assert torch.equal(influence().attribute(queries(), store=place).scores[:, :], expected.scores[:, :])


def test_names_columns_and_tables(tmp_path: Path) -> None:
    ids, texts = [f"doc-{k}" for k in range(N)], [f"text {k} é" for k in range(N)]
    names = [f"q{k}" for k in range(QUERIES)]
    each = influence(ids=ids)
    columns = {"text": texts, "length": np.arange(N) % 5}
    found = each.attribute(
        queries(), store=tmp_path / "store", columns=columns, query_ids=names, shard_size=9, train=[5, 3, 40]
    )
    found = uw.Stored.open(Local(tmp_path / "store"))
    assert found.ids[1] == "doc-3"
    assert found.columns["text"][[2, 0]].tolist() == ["text 40 é", "text 5 é"]
    assert found.columns["length"].all().tolist() == [0, 3, 0]
    assert found.top(2, queries="q3").ids.shape == (1, 2)
    assert found.top(2, queries=["q3", "q1"]).query_ids.tolist() == ["q3", "q1"]
    with pytest.raises(uw.InputError, match="'q9' is no query"):
        found.top(2, queries=["q9"])
    frame = found.to_pandas()
    assert len(frame) == QUERIES * 3
    assert frame["text"].tolist()[:3] == ["text 5 é", "text 3 é", "text 40 é"]
    few = found.to_pandas(k=1, queries=[2])
    assert few["rank"].tolist() == [1, -1]
    assert few["score"].tolist() == [float(found.scores[2, :].max()), float(found.scores[2, :].min())]
    import pandas as pd

    pd.testing.assert_frame_equal(pd.read_csv(found.to_csv(tmp_path / "a.csv")), frame, check_dtype=False, rtol=1e-6)
    pd.testing.assert_frame_equal(pd.read_parquet(found.to_parquet(tmp_path / "a.parquet")), frame)
    assert (np.load(found.to_numpy(tmp_path / "a.npy"), mmap_mode="r") == found.scores[:, :].numpy()).all()
    from safetensors.torch import load_file

    assert torch.equal(load_file(found.to_safetensors(tmp_path / "a.safetensors"))["scores"], found.scores[:, :])
    assert "doc-" in repr(found.top(1))
    assert "removal" in repr(found)


def test_a_dense_store_holds_little_more_than_its_scores(tmp_path: Path) -> None:
    place = tmp_path / "store"
    x, y = torch.randn(20_000, 6), torch.randint(3, (20_000,))
    model = nn.Linear(6, 3)
    each = uw.Influence(uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.1), uw.inverse.EKFAC())
    each.attribute((x[:100], y[:100]), store=place)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    assert size <= 4.4 * 20_000 * 100


@pytest.mark.parametrize(
    "inverse", [lambda: uw.inverse.EKFAC(damping=0.1), lambda: uw.inverse.CG(uw.curvature.GGN(), damping=0.1)]
)
def test_label_errors_by_shards(tmp_path: Path, inverse: Callable[[], Any]) -> None:
    whole = uw.tasks.label_effects(influence(inverse()))
    stored = uw.tasks.label_effects(influence(inverse()), store=tmp_path / "store", shard_size=8)
    torch.testing.assert_close(stored.pulls, whole.pulls)
    again = uw.tasks.label_effects(influence(inverse()), store=tmp_path / "store")
    assert torch.equal(again.pulls, stored.pulls)
    for method in ("margin", "relative"):
        ours, theirs = (uw.tasks.label_errors(effects, method=method) for effects in (stored, whole))  # type: ignore[arg-type]
        torch.testing.assert_close(ours.attribution.scores, theirs.attribution.scores, rtol=1e-4, atol=1e-6)


def test_damaged_names_are_done_again(tmp_path: Path) -> None:
    place, whole = tmp_path / "store", tmp_path / "whole"
    more = {"columns": {"text": [f"text {k}" for k in range(N)]}, "query_ids": [f"q{k}" for k in range(QUERIES)]}
    ids = [f"e{k}" for k in range(N)]
    influence(ids=ids).attribute(queries(), store=place, **more)
    shutil.copytree(place, whole)
    for name in ("ids", "query-ids", "column-0"):
        block = place / "blocks" / f"{name}-000000"
        block.write_bytes(block.read_bytes()[:-1] + b"\0")
    with pytest.raises(uw.InputError, match="begun with"), pytest.warns(DamagedFileWarning):
        influence(ids=ids).attribute(queries(), store=place, query_ids=more["query_ids"])
    with pytest.warns(DamagedFileWarning):
        influence(ids=ids).attribute(queries(), store=place, **more)
    assert contents(place) == contents(whole)


@pytest.mark.parametrize("known", [(False, True), (True, False), (False, False), (True, True)])
def test_whether_the_optimum_was_looked_at_before_changes_nothing(tmp_path: Path, known: tuple[bool, bool]) -> None:
    whole = influence().attribute(queries(), store=tmp_path / "whole", shard_size=8)
    place = tmp_path / "store"
    for is_known, executor in zip(known, (_Dying(3), None), strict=True):
        each = influence()
        if is_known:
            _ = each.stationarity
        try:
            found = each.attribute(queries(), store=place, shard_size=8, executor=executor)
        except _Killed:
            continue
    assert found.facts == pytest.approx(whole.facts)
    assert torch.equal(found.scores[:, :], whole.scores[:, :])


@pytest.mark.parametrize("name", ["ekfac", "dual"])
def test_a_job_begun_by_a_fitted_inverse_goes_on_to_the_same_numbers(tmp_path: Path, name: str) -> None:
    each = influence(INVERSES[name]())
    _ = each.solver  # whole, in another order of sums than by shards
    with pytest.raises(_Killed):
        each.attribute(queries(), store=tmp_path / "store", shard_size=8, executor=_Dying(3))
    found = influence(INVERSES[name]()).attribute(queries(), store=tmp_path / "store")
    again = influence(INVERSES[name]())
    _ = again.solver
    expected = again.attribute(queries(), store=tmp_path / "whole", shard_size=8)
    assert torch.equal(found.scores[:, :], expected.scores[:, :])


class _Scaled(nn.Module):
    def __init__(self, factor: float, slope: float) -> None:
        super().__init__()
        self.linear, self.act, self.factor = nn.Linear(6, 3), nn.LeakyReLU(slope), factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.linear(x)) * self.factor


linear = None
"""A name of this module that is also an attribute of the model: it means nothing to it."""


def test_settings_of_modules_belong_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = objective().data.take(list(range(N)))

    def scores(factor: float, slope: float = 0.1, l2: float = 0.1) -> uw.Stored:
        torch.manual_seed(0)
        made = uw.Objective(_Scaled(factor, slope), uw.losses.CrossEntropy(), data, l2=l2)
        return uw.Influence(made, uw.inverse.EKFAC()).attribute(queries(), store=tmp_path / "store")

    scores(1.0)
    monkeypatch.setitem(globals(), "linear", 3)
    scores(1.0)
    for other in ((2.0, 0.1), (1.0, 0.3)):
        with pytest.raises(uw.InputError, match="another model"):
            scores(*other)
    with pytest.raises(uw.InputError, match=r"l2='0\.1', and this call has l2='0\.2'"):
        scores(1.0, l2=0.2)


class _Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, x: torch.Tensor, y: torch.Tensor):
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[position], self.y[position]


@pytest.mark.parametrize("of", ["data", "queries"])
def test_one_changed_label_of_a_data_set_is_told(tmp_path: Path, of: str) -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(6, 3), torch.randn(600, 6), torch.randint(3, (600,))
    other = y.clone()
    other[301] = (other[301] + 1) % 3

    def score(labels: torch.Tensor) -> None:
        given = {"data": (_Rows(x, labels), (x[:2], y[:2])), "queries": ((x, y), _Rows(x, labels))}[of]
        made = uw.Objective(model, uw.losses.CrossEntropy(), given[0], l2=0.1)
        uw.Influence(made, uw.inverse.Identity()).attribute(given[1], store=tmp_path / "store")

    score(y)
    with pytest.raises(uw.InputError, match=f"{of}="):
        score(other)


def test_columns_and_places_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    place, call = tmp_path / "store", influence().attribute
    stored = call(queries(), store=place, columns={"text": ["a"] * N}, train=list(range(N)))
    assert call(queries(), store=place).columns.keys() == {"text"}
    for columns in ({"text": ["b"] * N}, {"text": ["a"] * N, "more": range(N)}):
        with pytest.raises(uw.InputError, match="begun with"):
            call(queries(), store=place, columns=columns)  # type: ignore[arg-type]
    with pytest.raises(uw.InputError, match="'score' of their own"):
        call(queries(), store=tmp_path / "other", columns={"score": range(N)})
    for name in ("store.json", "scores/mine", "../store/result.json"):
        with pytest.raises(uw.InputError, match="lies in the store"):
            stored.to_numpy(place / name)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(uw.InputError, match="is a file"):
        call(queries(), store=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
