"""Stores that are damaged, unfinished, another's or none: refused by name, or done again."""

import pickle

import pytest
import torch
from torch import nn

import upweight as uw
from problems import mlp, with_parameters
from upweight.errors import DamagedFileWarning
from upweight.files import NotWrittenError
from upweight.store.backend import Memory
from upweight.store.sealed import seal, unseal

PROJECTION = uw.index.Leading(12)


def built(store, objective=None, projection=PROJECTION, **options):
    given = objective or mlp().objective()
    return uw.index.build(given, store, projection, **{"shard": 7, **options})


def cut(content):
    return content[:-3]


def altered(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [cut, altered, lambda content: b""], ids=["cut", "altered", "empty"])
@pytest.mark.parametrize("block", ["rows-000002", "projector", "part-0000", "curvature-0000"])
def test_a_damaged_block_is_named_and_done_again(tmp_path, block, damage):
    problem = mlp()
    store = tmp_path / "index"
    index = built(store)
    queries = index.project(problem.objective(), problem.queries)
    expected = index.scores(queries).scores
    path = store / "blocks" / block
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    (store / "committed" / "curvature-whole.json").unlink()
    with pytest.raises(uw.InputError, match=f"block {block}"):
        uw.index.open(store).scores(queries)
    if block == "part-0000":
        return  # names and columns: what was given is asked for again
    if block.startswith("rows"):
        with pytest.warns(DamagedFileWarning, match=block):
            built(store)
    else:
        built(store)
    assert path.read_bytes() == whole
    assert torch.equal(uw.index.open(store).scores(queries).scores, expected)


def test_a_missing_shard_is_made_again(tmp_path):
    built(tmp_path / "index")
    (tmp_path / "index" / "committed" / "rows-000001.json").unlink()
    with pytest.raises(uw.InputError, match=r"lacks 1 of its shards \(rows-000001 first\)"):
        uw.index.open(tmp_path / "index")
    assert built(tmp_path / "index").n == 30


def test_another_model_is_refused_with_both_values():
    problem = mlp()
    store = Memory()
    index = built(store)
    other = with_parameters(problem.model, problem.theta + 0.01)
    changes = {
        "model": uw.Objective(other, uw.losses.CrossEntropy(), (problem.x, problem.y), l2=problem.l2),
        "loss": problem.objective(loss=uw.losses.CrossEntropy(label_smoothing=0.1)),
        "l2": problem.objective(l2=0.5),
        "parameters": problem.objective(parameters=["0.weight"]),
    }
    for name, objective in changes.items():
        for call in (
            lambda objective=objective: built(store, objective),
            lambda objective=objective: index.append(objective),
            lambda objective=objective: index.project(objective, problem.queries),
        ):
            with pytest.raises(uw.InputError, match=f"another (model|{name}): .* there, .* given"):
                call()


def test_other_data_ids_and_settings_are_refused_with_both_values():
    problem = mlp()
    names = [f"a{k}" for k in range(30)]
    store = Memory()
    label = {"label": problem.y}
    built(store, problem.objective(ids=names), columns=label)
    moved = problem.x.clone()
    moved[4, 1] += 1e-6
    swapped = [names[1], names[0], *names[2:]]
    cases = [
        ({"data": (moved, problem.y), "ids": names}, {}, r"of other data: \w{16} there, \w{16} given"),
        ({"data": (problem.x[:9], problem.y[:9])}, {"columns": None}, "30 examples, and the objective has 9"),
        ({"ids": swapped}, {}, "ids: example 0 is 'a1', but 'a0' in memory"),
        ({"ids": names}, {"columns": {"label": problem.y.flip(0)}}, "columns: 'label' isn't as in"),
        ({"ids": names}, {"dtype": "float32"}, "dtype: the index in memory has int8, and float32 was given"),
        ({"ids": names}, {"shard": 8}, "shard: .* has 7, and 8 was given"),
        ({"ids": names}, {"projection": uw.index.Leading(11)}, "projection: .*12.*11"),
        ({"ids": names}, {"curvature": uw.curvature.Fisher()}, "curvature: .*GGN.*Fisher"),
        ({"ids": names}, {"resume": False}, "an index in memory already"),
    ]
    for given, options, words in cases:
        with pytest.raises(uw.InputError, match=words):
            built(store, problem.objective(**given), **{"columns": label, **options})
    assert built(store, problem.objective(ids=names), columns=label).n == 30


def test_another_version_is_refused():
    store = Memory()
    built(store)
    blocks = uw.index.open(store)._stored.blocks
    said = unseal(blocks.content("index"))
    blocks.commit("index", seal({**said, "format": 99}))
    with pytest.raises(uw.InputError, match="of format 99; this version reads 1"):
        uw.index.open(store)
    blocks.commit("index", b"anything")
    with pytest.raises(uw.InputError, match="no description of an index"):
        uw.index.open(store)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(uw.InputError, match="no index in"):
        uw.index.open(tmp_path / "nothing")
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(uw.InputError, match="no index in"):
        uw.index.open(file)
    with pytest.raises((uw.InputError, NotWrittenError)):
        built(file)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(uw.InputError, match=r"holds something else \(notes.txt\)"):
        built(tmp_path / "full")
    for nothing in (None, 3, ["a"]):
        with pytest.raises(uw.InputError, match="store"):
            uw.index.open(nothing)


def test_a_folder_that_can_not_be_written_to_is_refused_before_work(tmp_path, monkeypatch):
    from upweight import files

    def full(*_, **__):
        raise NotWrittenError("no space left")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(NotWrittenError, match="no space left"):
        built(tmp_path / "index")
    assert not list((tmp_path).rglob("rows-*"))


def test_reading_runs_no_code(tmp_path):
    class Loud:
        def __reduce__(self):
            return (print, ("code was run",))

    store = Memory()
    built(store)
    blocks = uw.index.open(store)._stored.blocks
    blocks.commit("rows-000000", pickle.dumps(Loud()))
    index = uw.index.open(store)
    with pytest.raises(uw.InputError, match="rows-000000"):
        index.scores(index.project(mlp().objective(), mlp().queries))


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
def test_not_finite_gradients_are_named():
    torch.manual_seed(0)
    x = torch.randn(9, 3, dtype=torch.float64)
    x[4] = 0
    model = nn.Linear(3, 2, bias=False).double()

    def loss(model, batch):
        return model(batch[0]).square().sum(1).sqrt()

    objective = uw.Objective(model, uw.losses.Function(loss), (x, torch.zeros(9)), l2=0.1)
    store = Memory()
    for projection in (uw.index.Sparse(8), uw.index.LowRank()):
        with pytest.raises(uw.InputError, match="example 4"):
            built(store, objective, projection)
        store = Memory()
