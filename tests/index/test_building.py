"""How an index comes about: shards, resuming, appending, precision, filters, memory."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, mlp
from tracked import Tracked
from upweight.curvature import GGN, EmpiricalFisher
from upweight.files import NotWrittenError
from upweight.index import codec, whole_products
from upweight.store.backend import Local, Memory

PROJECTIONS = [uw.index.Leading(12), uw.index.Factored(3), uw.index.Sparse(16), uw.index.LowRank(2, size=3, rows=200)]


def built(objective, store=None, projection=None, **options):
    return uw.index.build(objective, Memory() if store is None else store, projection, shard=7, **options)


def scores(index, objective=None, **options):
    problem = mlp()
    queries = index.project(objective or problem.objective(), problem.queries)
    return index.scores(queries, damping=0.05, **options).scores


@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_batches_and_shards_change_nothing(projection):
    problem = mlp()
    expected = scores(built(problem.objective(), None, projection, dtype="float64"))
    for rows in (1, 5):
        objective = problem.objective(batch_size=rows)
        found = uw.index.build(objective, Memory(), projection, dtype="float64", shard=rows + 3)
        close(scores(found, objective), expected, rtol=1e-7, atol=1e-10)


class Stopping(Memory):
    """Memory that fails once a block of some name is to be written."""

    def __init__(self, at):
        super().__init__()
        object.__setattr__(self, "at", at)

    def write(self, key, content):
        if self.at in key:
            raise KeyboardInterrupt
        super().write(key, content)


@pytest.mark.parametrize(
    "at", ["blocks/projector", "committed/index", "blocks/part-0000", "blocks/rows-000002", "committed/rows-000004"]
)
@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_what_was_cut_short_goes_on_to_the_same_bytes(projection, at):
    objective = mlp().objective()
    whole = Memory()
    built(objective, whole, projection)
    cut = Stopping(at)
    with pytest.raises(KeyboardInterrupt):
        built(objective, cut, projection)
    with pytest.raises(uw.InputError, match=r"no index in|lacks"):
        uw.index.open(cut)
    begun = dict(cut.content)
    object.__setattr__(cut, "at", "nothing")
    built(objective, cut, projection)
    assert cut.content == whole.content
    assert all(cut.content[key] == value for key, value in begun.items())


def test_a_finished_index_is_not_made_again(monkeypatch):
    objective = mlp().objective()
    store = Memory()
    built(objective, store)

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(Memory, "write", never)
    assert built(objective, store).n == objective.n


@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher()], ids=["ggn", "gradients"])
@pytest.mark.parametrize(
    "projection", [uw.index.Sparse(16), uw.index.Factored(3, "random"), uw.index.LowRank(2, rows=200)], ids=str
)
def test_appending_is_building_at_once(projection, curvature):
    problem = mlp()
    whole = built(problem.objective(), None, projection, dtype="float64", curvature=curvature)
    first = problem.objective(data=(problem.x[:11], problem.y[:11]))
    index = built(first, None, projection, dtype="float64", curvature=curvature)
    assert scores(index, first).shape == (5, 11)
    for begin, end in ((11, 20), (20, 30)):
        index.append(problem.objective(data=(problem.x[begin:end], problem.y[begin:end])))
    assert index.n == 30
    assert index.ids.tolist() == list(range(30))
    close(scores(index), scores(whole), rtol=1e-6, atol=1e-9)
    close(scores(uw.index.open(index._stored.backend)), scores(whole), rtol=1e-6, atol=1e-9)


def test_appending_that_was_cut_short_goes_on():
    problem = mlp()
    first, rest = (problem.objective(data=(problem.x[part], problem.y[part])) for part in (slice(11), slice(11, 30)))
    store = Stopping("nothing")
    index = built(first, store)
    whole = Memory(dict(store.content))
    uw.index.open(whole).append(rest)
    object.__setattr__(store, "at", "blocks/rows-000003")
    with pytest.raises(KeyboardInterrupt):
        index.append(rest)
    object.__setattr__(store, "at", "nothing")
    with pytest.raises(uw.InputError, match="lacks 2 of its shards"):
        uw.index.open(store)
    index.append(rest)
    assert store.content == whole.content


def test_what_is_appended_must_be_new_and_of_the_same_columns():
    problem = mlp()
    objective = problem.objective(ids=[f"a{k}" for k in range(30)])
    index = built(objective, columns={"label": problem.y})
    with pytest.raises(uw.InputError, match=r"ids: 30 examples are in memory already, 'a0' among them"):
        index.append(objective, columns={"label": problem.y})
    with pytest.raises(uw.InputError, match=r"columns: .* has \['label'\], and \[\] were given"):
        index.append(problem.objective())
    with pytest.raises(uw.InputError, match="text was appended to numbers"):
        index.append(problem.objective(ids=range(30)), columns={"label": problem.y})
    index.append(problem.objective(ids=[f"b{k}" for k in range(30)]), columns={"label": problem.y})
    assert index.n == 60


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 2**-8), ("int8", 1 / 254)])
def test_rows_are_within_the_bound_of_their_precision(dtype, bound):
    torch.manual_seed(0)
    rows = torch.randn(40, 50) * torch.logspace(-3, 3, 40)[:, None]
    rows[3] = 0
    widths = (20, 30)
    held = codec.views(bytearray(codec.encode(rows, widths, dtype)), "rows")
    found = codec.decode(held, slice(0, 40), widths)
    for part, exact in zip(found.split(widths, 1), rows.split(widths, 1), strict=True):
        size = exact.abs() if dtype != "int8" else exact.abs().amax(1, keepdim=True)
        assert bool(((part - exact).abs() <= 1.001 * bound * size).all())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_scores_of_lower_precision_are_near(projection, dtype):
    objective = mlp().objective()
    exact = scores(built(objective, None, projection, dtype="float64"))
    found = scores(built(objective, None, projection, dtype=dtype)).double()
    bound = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.04}[dtype]
    assert float((found - exact).norm() / exact.norm()) < bound


def test_filters_choose_columns_and_scores_are_those_of_all():
    problem = mlp()
    objective = problem.objective(ids=[f"a{k}" for k in range(30)])
    source = np.array(["left", "right", "other"])[np.arange(30) % 3]
    index = built(objective, columns={"label": problem.y, "source": source, "length": np.arange(30.0)})
    queries = index.project(objective, problem.queries)
    whole = index.scores(queries)
    cases = [
        ({"where": {"label": 1}}, np.flatnonzero(problem.y.numpy() == 1)),
        ({"where": {"source": ["left", "other"], "label": [0, 2]}}, None),
        ({"where": lambda columns: columns["length"] > 21.5}, np.arange(22, 30)),
        ({"train": ["a9", "a3", "a28"]}, np.array([9, 3, 28])),
        ({"train": [20, 2, 11], "where": {"source": "other"}}, np.array([20, 2, 11])),
    ]
    for options, positions in cases:
        if positions is None:
            positions = np.flatnonzero(np.isin(source, ["left", "other"]) & np.isin(problem.y.numpy(), [0, 2]))
        found = index.scores(queries, **options)
        assert found.ids.tolist() == [f"a{k}" for k in positions]
        close(found.scores, whole.scores[:, positions], rtol=1e-5, atol=1e-9)
    for harmful, ranking in ((False, whole.top(4)), (True, whole.bottom(4))):
        found = index.top(queries, 4, harmful=harmful)
        assert (found.title, found.ids.tolist()) == (ranking.title, ranking.ids.tolist())
        close(found.scores, ranking.scores, rtol=1e-5, atol=1e-9)
    assert index.top(queries, 50, where={"label": 1}).positions.shape[1] == int((problem.y == 1).sum())
    with pytest.raises(uw.InputError, match="no column 'colour'; the index has 'label', 'source', 'length'"):
        index.scores(queries, where={"colour": 1})
    with pytest.raises(uw.InputError, match="none of 30 examples is chosen"):
        index.scores(queries, where={"label": 9})
    with pytest.raises(uw.InputError, match="one boolean per example"):
        index.scores(queries, where=lambda columns: columns["length"])


def test_queries_are_kept_under_a_name_and_answered_without_the_model(tmp_path):
    problem = mlp()
    objective = problem.objective()
    index = built(objective, tmp_path / "index")
    queries = index.project(objective, problem.queries, query_ids=list("abcde"), name="first", measurement="margin")
    expected = index.scores(queries)
    again = uw.index.open(tmp_path / "index")
    found = again.scores(again.queries("first"))
    assert found.quantity == expected.quantity
    assert found.query_ids.tolist() == list("abcde")
    assert found.damping == expected.damping
    assert torch.equal(found.scores, expected.scores)
    with pytest.raises(uw.InputError, match="has none called 'second'; it has 'first'"):
        again.queries("second")
    other = built(objective, None, uw.index.Sparse(8))
    with pytest.raises(uw.InputError, match="projected for another index"):
        other.scores(queries)


@pytest.mark.parametrize("projection", [uw.index.Leading(12), uw.index.LowRank(1, rows=60, curvature_rank=20)], ids=str)
def test_memory_does_not_grow_with_the_examples(projection, monkeypatch):
    monkeypatch.setattr(codec, "PIECE", 2**10)
    problem = mlp()
    peaks = []
    for times in (4, 16):
        data = problem.x.repeat(times, 1), problem.y.repeat(times)
        objective = problem.objective(data=data, batch_size=16)
        index = uw.index.build(objective, Memory(), projection, shard=32)
        queries = index.project(objective, problem.queries)
        index.top(queries, 3)
        with Tracked() as tracked:
            index.top(queries, 3)
        peaks.append(tracked.peak)
    # Positions of those chosen are held: 8 bytes each, and as many again for their order.
    assert peaks[1] - peaks[0] < 40 * 12 * 30


def test_what_a_local_store_holds_is_mapped_and_never_changed(tmp_path):
    objective = mlp().objective()
    index = built(objective, Local(tmp_path / "index"), dtype="float32")
    before = {path: path.read_bytes() for path in (tmp_path / "index").rglob("rows-*")}
    held = index._stored.tensors("rows-000000")
    held["values"].zero_()
    assert {path: path.read_bytes() for path in (tmp_path / "index").rglob("rows-*")} == before
    assert float(index._stored.tensors("rows-000000")["values"].abs().sum()) > 0


def test_a_store_that_can_not_be_written_to_is_still_read(monkeypatch):
    problem = mlp()
    objective = problem.objective()
    for projection in (uw.index.Leading(12), uw.index.LowRank(2)):
        store = Memory()
        index = built(objective, store, projection)
        queries = index.project(objective, problem.queries)
        fresh = uw.index.open(store)

        def refuse(*_):
            raise NotWrittenError("read-only")

        with monkeypatch.context() as patch:
            patch.setattr(Memory, "write", refuse)
            found = fresh.scores(queries)
        close(found.scores, index.scores(queries).scores, rtol=1e-4, atol=1e-8)


def test_settings_that_are_none_are_refused():
    for wrong in (
        lambda: uw.index.Leading(0),
        lambda: uw.index.Factored(2, "other"),
        lambda: uw.index.Sparse(True),
        lambda: uw.index.LowRank(1.5),
        lambda: built(mlp().objective(), None, "leading"),
        lambda: built(mlp().objective(), dtype="float16"),
        lambda: built(mlp().objective(), curvature=uw.curvature.Hessian()),
        lambda: built(mlp().objective(), columns={"label": [1]}),
        lambda: built(mlp().objective(), ids=[0] * 30),
        lambda: built(mlp()),
    ):
        with pytest.raises(uw.InputError):
            wrong()


def test_the_index_of_a_user_s_own_loss_has_its_gradients_as_curvature():
    problem = mlp()

    def loss(model, batch):
        return (model(batch[0]) ** 2).sum(1)

    objective = problem.objective(loss=uw.losses.Function(loss))
    index = built(objective, dtype="float64")
    assert index.description.curvature == {"kind": "EmpiricalFisher"}
    assert index.scores(index.project(objective, problem.queries), damping=0.1).scores.dtype == DOUBLE
    assert replace(index.description).width == mlp().theta.numel()


@pytest.mark.parametrize("widths", [(70, 0, 200), (65,), (128, 64)])
def test_products_of_whole_numbers_are_those_of_decoded_rows(widths):
    torch.manual_seed(0)
    rows, queries = torch.randn(33, sum(widths)), torch.randn(5, sum(widths)) * torch.logspace(-4, 4, 5)[:, None]
    queries[3] = 0
    assert whole_products.pays(widths)
    held = codec.views(bytearray(codec.encode(rows, widths, "int8")), "rows")
    for chosen in (slice(0, 33), torch.tensor([4, 30, 2])):
        exact = queries @ codec.decode(held, chosen, widths).T
        found = whole_products.product(queries, widths)(held, chosen)
        bound = queries.norm(dim=1, keepdim=True) * rows[chosen].norm(dim=1) * 2**-14
        assert bool(((found - exact).abs() <= bound).all())


KILLED = """
import os, signal, sys, torch, upweight as uw
from problems import mlp
from upweight.store.backend import Local

whole = Local.write

def write(self, key, content):
    if key == "committed/rows-000002.json":
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self, key, content)

Local.write = write
uw.index.build(mlp().objective(), sys.argv[1], uw.index.Sparse(16), shard=7)
"""


def test_a_process_that_was_killed_loses_the_shard_in_flight_only(tmp_path):
    paths = [str(Path(uw.__file__).parent.parent), str(Path(__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "index")], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    rows = sorted((tmp_path / "index" / "blocks").glob("rows-*"))
    before = {path: path.stat().st_mtime_ns for path in rows[:2]}
    assert [path.name for path in rows] == ["rows-000000", "rows-000001", "rows-000002"]
    built(mlp().objective(), tmp_path / "index", uw.index.Sparse(16))
    built(mlp().objective(), tmp_path / "at once", uw.index.Sparse(16))
    assert {path: path.stat().st_mtime_ns for path in rows[:2]} == before
    for path in (tmp_path / "at once" / "blocks").iterdir():
        assert (tmp_path / "index" / "blocks" / path.name).read_bytes() == path.read_bytes()


def test_a_url_is_a_store_too():
    pytest.importorskip("fsspec")
    problem = mlp()
    objective = problem.objective()
    index = built(objective, "memory://gradients")
    queries = index.project(objective, problem.queries, name="some")
    again = uw.index.open("memory://gradients")
    assert torch.equal(again.scores(again.queries("some")).scores, index.scores(queries).scores)
