"""Selection on least squares, where leaving out and retraining are known, and on duplicates."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

import upweight as uw
from figures import texts
from upweight.errors import InputError
from upweight.evaluation import Training
from upweight.tasks import select
from upweight.tasks.selection import diverse
from upweight.tasks.selection.diverse import greedy

N, D = 24, 3


def generated(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, D, dtype=torch.float64, generator=generator)
    return x, x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def fitted(x: Tensor, y: Tensor) -> nn.Module:
    """Ridge regression with λ = .1 on the mean of ½ squares."""
    model = nn.Linear(D, 1, bias=False, dtype=torch.float64)
    inverse = torch.linalg.inv(x.T @ x / len(x) + 0.1 * torch.eye(D, dtype=torch.float64))
    with torch.no_grad():
        model.weight.copy_((inverse @ x.T @ y / len(x))[None])
    return model.eval()


pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")

X, Y = generated()
NOISY = torch.where(torch.arange(N) < 6, -Y, Y)
"""The first six have the wrong sign."""
REFERENCE, HELD_OUT = generated(1), generated(2)


def train(indices: Tensor, seed: int) -> nn.Module:
    return fitted(X[indices], NOISY[indices])


def pool() -> uw.Objective:
    return uw.Objective(fitted(X, NOISY), uw.losses.SquaredError(0.5), (X, NOISY), l2=0.1)


@pytest.mark.parametrize("method", ["influence", "tracin", "trak"])
def test_examples_with_wrong_labels_score_below_the_others(method: str) -> None:
    found = select(pool(), REFERENCE, N - 6, method=method)
    assert found.scores[6:].mean() > 0 > found.scores[:6].mean()
    assert found.method == method
    assert (np.diff(found.scores[found.positions]) <= 0).all()


def test_influence_is_the_mean_removal_score() -> None:
    influence = uw.Influence(pool())
    expected = influence.attribute(REFERENCE).scores.mean(0).numpy()
    found = select(influence, REFERENCE, 5)
    np.testing.assert_allclose(found.scores, expected)
    assert found.positions.tolist() == np.argsort(-expected)[:5].tolist()
    again = select(pool(), REFERENCE, 5, attribution=influence.attribute(REFERENCE))
    assert again.positions.tolist() == found.positions.tolist()
    assert again.method == "given scores"


def test_signs_are_those_of_the_quantity() -> None:
    influence = uw.Influence(pool())
    pulled = influence.attribute(REFERENCE, quantity="upweight")
    np.testing.assert_array_equal(
        select(influence, REFERENCE, 5, attribution=pulled).positions, select(influence, REFERENCE, 5).positions
    )


def test_relative_scores_are_over_the_root_of_self_influence() -> None:
    influence = uw.Influence(pool())
    own = influence.self_influence().scores.numpy()
    expected = influence.attribute(REFERENCE).scores.mean(0).numpy() / np.sqrt(own)
    np.testing.assert_allclose(select(influence, REFERENCE, 3, relative=True).scores, expected)


def test_words_and_cosines_and_chance_choose_too() -> None:
    words = ["a b", "c d"] * (N // 2)
    found = select(pool(), REFERENCE, 12, method="bm25", texts=words, reference_texts=["b"] * N)
    assert sorted(found.positions.tolist()) == list(range(0, N, 2))
    one, other = (select(pool(), REFERENCE, 5, method="random", seed=seed).positions for seed in (0, 1))
    assert one.tolist() != other.tolist()
    assert one.tolist() == select(pool(), REFERENCE, 5, method="random", seed=0).positions.tolist()
    cosines = uw.similarity.gradient_cosine(pool(), REFERENCE).scores.mean(0).numpy()
    assert select(pool(), REFERENCE, 1, method="similarity").positions[0] == cosines.argmax()


def doubled() -> uw.Objective:
    """Every example twice."""
    x, y = X.repeat(2, 1), NOISY.repeat(2)
    return uw.Objective(fitted(x, y), uw.losses.SquaredError(0.5), (x, y), l2=0.1)


def test_duplicates_are_not_chosen_twice_where_diversity_counts() -> None:
    best, diverse = (select(doubled(), REFERENCE, 4, diversity=weight).positions for weight in (0.0, 1.0))
    assert len(set((best % N).tolist())) == 2  # each of the best beside its double
    assert len(set((diverse % N).tolist())) == 4
    assert diverse[0] == best[0]


def test_variety_of_what_was_chosen_is_told() -> None:
    best, diverse = (select(doubled(), REFERENCE, 4, diversity=weight).variety() for weight in (0.0, 1.0))
    assert best.directions == best.best == diverse.best < diverse.directions
    assert best.directions < 2.01  # two pairs
    assert best.doubles == 1
    assert diverse.doubles < 1
    assert "100% have a double among them" in str(best)
    with pytest.raises(InputError, match="of 1 chosen example there is no other"):
        select(pool(), REFERENCE, 1).variety()


@pytest.mark.parametrize("count", [5, 40])
def test_effective_directions_are_the_entropy_of_the_cosines(count: int) -> None:
    generator = torch.Generator().manual_seed(2)
    rows = nn.functional.normalize(torch.randn(count, 7, dtype=torch.float64, generator=generator))
    shares = torch.linalg.eigvalsh(rows @ rows.T / count).clamp_min(1e-300)
    assert diverse.effective(rows) == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())))
    assert diverse.effective(torch.eye(7)[:count]) == pytest.approx(min(count, 7))
    assert diverse.effective(rows[:1].expand(count, -1)) == pytest.approx(1)
    assert diverse.effective(torch.zeros(count, 7)) == pytest.approx(1)


def test_the_nearest_other_row_is_found_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = nn.functional.normalize(torch.randn(11, 3, dtype=torch.float64, generator=generator))
    products = rows @ rows.T - 2 * torch.eye(11, dtype=torch.float64)
    expected = products.max(1).values
    for block in (3, 100):
        monkeypatch.setattr(diverse, "BLOCK", block)
        torch.testing.assert_close(diverse.nearest(rows, generator), expected)
    monkeypatch.setattr(diverse, "PROBES", 5)
    assert len(diverse.nearest(rows, generator)) == 5


def test_likeness_discounts_scores_as_the_formula_says() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = nn.functional.normalize(torch.randn(9, 4, generator=generator))
    scores = np.linspace(1, -0.5, 9)
    chosen = greedy(scores, rows, 9, 0.6)
    left = list(range(9))
    for step, position in enumerate(chosen):
        near = [max([float(rows[i] @ rows[j]) for j in chosen[:step]] + [0.0]) for i in left]
        values = [scores[i] * (1 - 0.6 * each if scores[i] > 0 else 1) for i, each in zip(left, near, strict=True)]
        assert left[int(np.argmax(values))] == position
        left.remove(position)


class Pairs(Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return X[position], NOISY[position]


def test_a_subset_is_a_data_set_of_the_same_kind() -> None:
    model, loss = fitted(X, NOISY), uw.losses.SquaredError(0.5)
    ids = [f"e{i}" for i in range(N)]

    def chosen(data: object) -> uw.tasks.Selection:
        return select(uw.Objective(model, loss, data, l2=0.1, ids=ids), REFERENCE, 4)

    arrays, mapped = chosen((X, NOISY)), chosen(Pairs())
    positions = torch.from_numpy(arrays.positions)
    assert mapped.positions.tolist() == positions.tolist()
    x, y = arrays.subset()
    assert torch.equal(x, X[positions])
    assert torch.equal(y, NOISY[positions])
    subset = mapped.subset()
    assert isinstance(subset, Subset)
    assert torch.equal(subset[1][0], X[positions[1]])
    cut = arrays.subset({"x": X.numpy(), "more": (Y, Y)})
    np.testing.assert_array_equal(cut["x"], X[positions].numpy())
    assert isinstance(cut["more"], tuple)
    assert arrays.subset(list(range(N))) == positions.tolist()
    assert arrays.ids.tolist() == [f"e{i}" for i in positions]
    assert arrays.to_pandas()["id"].tolist() == arrays.ids.tolist()
    assert "Selection of 4 of 24 examples by influence" in repr(arrays)
    with pytest.raises(InputError, match="dataset: got 3 examples"):
        arrays.subset([1, 2, 3])


def test_a_hugging_face_dataset_stays_one() -> None:
    datasets = pytest.importorskip("datasets")
    pool = datasets.Dataset.from_dict({"x": X.float().numpy(), "y": NOISY.float().numpy()})

    def collate(examples: list[dict]) -> tuple[Tensor, Tensor]:
        return torch.stack([each["x"] for each in examples]), torch.stack([each["y"] for each in examples])

    objective = uw.Objective(fitted(X, NOISY).float(), uw.losses.SquaredError(0.5), pool, l2=0.1, collate=collate)
    found = select(objective, tuple(part.float() for part in REFERENCE), 4)
    subset = found.subset()
    assert isinstance(subset, datasets.Dataset)
    np.testing.assert_allclose(np.array(subset["y"]), NOISY[found.positions].float().numpy())


def test_retraining_compares_it_with_chance_and_with_everything() -> None:
    found = select(pool(), REFERENCE, 15)
    compared = found.compare(
        Training(train, (0, 1)), HELD_OUT, others={"worst": select(pool(), REFERENCE, 15, method="random")}, draws=4
    )
    assert {name: len(values) for name, values in compared.losses.items()} == {
        "influence": 2,
        "worst": 2,
        "random subsets": 8,
        "everything": 2,
    }
    expected = 0.5 * (HELD_OUT[0] @ train(torch.from_numpy(found.positions), 0).weight[0] - HELD_OUT[1]) ** 2
    torch.testing.assert_close(compared.losses["influence"][0], expected.detach())
    whole = 0.5 * (HELD_OUT[0] @ train(torch.arange(N), 0).weight[0] - HELD_OUT[1]) ** 2
    torch.testing.assert_close(compared.losses["everything"][1], whole.detach())
    gain = compared.gain("influence")
    expected_gain = compared.losses["random subsets"].mean() - compared.losses["influence"].mean()
    assert gain.value == pytest.approx(float(expected_gain))
    assert gain.interval.low > 0
    assert compared.gain("influence", "everything").value > 0
    assert "below random subsets by" in repr(compared)
    assert "influence" in texts(compared.figure(title="title"))
    assert compared.to_pandas()["trained on"].tolist() == list(compared.losses)
    with pytest.raises(InputError, match="name: give one of"):
        compared.mean("nobody")


def test_the_reference_set_judges_where_nothing_is_held_out() -> None:
    compared = select(pool(), REFERENCE, 15).compare(train, draws=1, everything=False)
    assert list(compared.losses) == ["influence", "random subsets"]
    assert compared.losses["influence"].shape == (1, N)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k: "),
        ({"k": N + 1}, "k: "),
        ({"diversity": 1.5}, "diversity"),
        ({"diversity": -0.5}, "diversity"),
        ({"method": "bm25"}, "texts: BM25 reads words"),
        ({"method": "bm25", "texts": ["a"] * N}, "reference_texts: BM25 reads words"),
        ({"method": "tracin", "relative": True}, "relative: for the method 'influence'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refuses(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        select(pool(), REFERENCE, **{"k": 3, **options})


def test_refuses_scores_and_selections_of_others() -> None:
    influence = uw.Influence(pool())
    with pytest.raises(InputError, match="attribution: got scores"):
        select(influence, REFERENCE, 3, attribution=influence.attribute((X[:2], Y[:2])))
    small = uw.Objective(fitted(X, NOISY), uw.losses.SquaredError(0.5), (X[:9], NOISY[:9]), l2=0.1)
    other = select(small, REFERENCE, 3, method="random")
    with pytest.raises(InputError, match=r"others\['other'\]: it is of a pool of"):
        select(influence, REFERENCE, 3).compare(train, others={"other": other})
