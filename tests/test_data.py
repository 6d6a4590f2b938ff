"""Training data in every form that is used for it, read once and walked in order."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import datasets as huggingface
import upweight as uw
from upweight.data import ArrayData, MapData, as_data, batch_length, cast, join
from upweight.errors import InputError

X = np.arange(20.0).reshape(10, 2)
Y = np.arange(10) % 3


class Pairs(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.from_numpy(X[i]), int(Y[i])


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "numpy": lambda: (X, Y),
    "tensors": lambda: (torch.from_numpy(X), torch.from_numpy(Y)),
    "pandas": lambda: (pd.DataFrame(X), pd.Series(Y)),
    "TensorDataset": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "dataset": Pairs,
    "list": lambda: [Pairs()[i] for i in range(10)],
    "subset": lambda: Subset(Pairs(), range(10)),
    "read-only": lambda: (frozen(X), frozen(Y)),
    "reversed": lambda: (X[::-1].copy()[::-1], Y[::-1].copy()[::-1]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [3, 10, None])
def test_every_form_gives_the_same_examples_in_order(form, size):
    data = as_data(FORMS[form]()).to(torch.float32, torch.device("cpu"))
    assert len(data) == 10
    positions, batches = zip(*data.batches(None, size), strict=True)
    assert torch.cat(positions).tolist() == list(range(10))
    x, y = (torch.cat([batch[k] for batch in batches]) for k in (0, 1))
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert not y.is_floating_point()


@pytest.mark.parametrize("form", FORMS)
def test_chosen_positions_come_in_the_order_asked(form):
    data = as_data(FORMS[form]())
    chosen = torch.tensor([7, 0, 3, 9, 1])
    np.testing.assert_array_equal(data.take(chosen)[0], X[chosen])
    positions, batches = zip(*data.batches(chosen, 2), strict=True)
    assert torch.cat(positions).tolist() == chosen.tolist()
    np.testing.assert_array_equal(torch.cat([batch[0] for batch in batches]), X[chosen])


@pytest.mark.parametrize(("width", "rows"), [(10_000, 104), (2**10, 1023), (3, 4096), (10**6, 32)])
def test_a_batch_holds_about_a_million_numbers_but_neither_few_nor_very_many_examples(width, rows):
    x = np.zeros((1, 1), dtype=np.float32).repeat(width, 1)
    assert as_data((x, np.zeros(1))).rows == rows


def test_nested_batches_keep_their_structure():
    data = as_data({"inputs": {"a": X, "b": (Y, X)}, "labels": Y})
    ((_, batch),) = data.batches(None, None)
    assert batch["inputs"]["b"][1].shape == (10, 2)
    assert batch_length(batch) == 10
    joined = join(batch, data.take([0]))
    assert joined["inputs"]["a"].shape == (11, 2)


def test_casting_leaves_whole_numbers_alone():
    batch = cast(
        {"x": torch.zeros(2), "y": torch.zeros(2, dtype=torch.int32), "name": "a"}, torch.float64, torch.device("cpu")
    )
    assert batch["x"].dtype == torch.float64
    assert batch["y"].dtype == torch.int32
    assert batch["name"] == "a"


def test_data_that_was_read_is_not_read_again():
    arrays, mapped = as_data((X, Y)), as_data(Pairs())
    assert isinstance(arrays, ArrayData)
    assert isinstance(mapped, MapData)
    assert as_data(arrays) is arrays
    assert as_data(mapped) is mapped


def test_the_users_own_collate_is_used():
    def collate(examples):
        return {"x": torch.stack([x for x, _ in examples]), "y": torch.tensor([y for _, y in examples])}

    ((_, batch),) = as_data(Pairs(), collate=collate).batches(None, None)
    assert set(batch) == {"x", "y"}


class Stream(IterableDataset):
    def __iter__(self):
        yield from Pairs()


BAD = X.copy()
BAD[4, 1], BAD[6, 0] = np.nan, np.inf


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(), "Stream is iterable without length or positions.*map-style"),
        ((pair for pair in Pairs()), "generator is iterable without length"),
        (DataLoader(Pairs(), batch_size=None), "the DataLoader has batch_size=None"),
        ((X, Y[:-1]), r"same number of examples.*\(10, 2\), \(9,\)"),
        ((X[:0], Y[:0]), r"empty \(0 examples\)"),
        ([], r"empty \(0 examples\)"),
        ((BAD, Y), "array 0 has NaN or infinite values in 2 examples, first at position 4"),
        ((X, BAD), "array 1 has NaN or infinite"),
        ((np.array(["a", "b"]), Y[:2]), "can't become a tensor"),
        ({1, 2}, "can't be indexed"),
        (3, "int can't be indexed"),
    ],
)
def test_what_is_no_training_data_is_refused_by_name(source, message):
    with pytest.raises(InputError, match=f"queries: .*{message}"):
        as_data(source, name="queries")


def test_a_batch_without_tensors_has_no_length():
    with pytest.raises(InputError, match="no tensor with a first dimension"):
        batch_length({"a": 1})


def test_a_hugging_face_dataset_gives_the_scores_of_its_arrays() -> None:
    generator = torch.Generator().manual_seed(0)
    # Numbers that float32 holds exactly: Hugging Face's torch format gives no others.
    x = torch.randint(-8, 9, (30, 3), generator=generator).double() / 4
    labels = (x[:, 0] + x[:, 1] > 0).long()
    source = huggingface.Dataset.from_dict({"input": x.tolist(), "label": labels.tolist()})
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    scores = []
    for data, queries in ((source, source.select(range(4))), ({"input": x, "label": labels}, None)):
        objective = uw.Objective(model, uw.losses.CrossEntropy(), data, l2=0.1, batch_size=7)
        influence = uw.Influence(uw.retraining.fit(objective))
        scores.append(influence.attribute(queries or {"input": x[:4], "label": labels[:4]}).scores)
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-9, atol=1e-12)
    assert source.format["type"] is None  # the user's own view of it is as it was


@pytest.mark.parametrize("form", ["numpy", "dataset"])
def test_no_positions_have_no_batches(form):
    data = as_data(FORMS[form]())
    assert list(data.batches(torch.empty(0, dtype=torch.long), 4)) == []
