"""The real packages hold what the registry says; skipped, with the reason, where one cannot be had."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from upweight import datasets
from upweight.datasets import spam_assassin, support2

pytestmark = pytest.mark.download
heavy = pytest.mark.slow_download


@pytest.mark.parametrize(
    "name",
    ["mnist", pytest.param("fashion-mnist", marks=heavy), pytest.param("cifar10", marks=heavy), "digits"],
)
def test_arrays_are_as_the_registry_says(real, name):
    data = real(name)
    for spec in data.info.arrays:
        assert (data[spec.name].shape, data[spec.name].dtype.name) == (spec.shape, spec.dtype)
    labels = data["labels" if name == "digits" else "train_labels"]
    assert set(np.unique(labels)) == set(range(len(data.classes)))


def test_mnist_is_the_canonical_one(real):
    data = real("mnist")
    assert np.bincount(data.train_labels)[:3].tolist() == [5923, 6742, 5958]
    assert np.isin(data.train_labels, [1, 7]).sum() == 13_007
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)


@heavy
def test_fashion_mnist_is_the_canonical_one(real):
    data = real("fashion-mnist")
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    assert data.train_images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


@heavy
def test_cifar10_is_the_canonical_one(real):
    data = real("cifar10")
    means = data.train_images.mean((0, 1, 2))
    np.testing.assert_allclose(means, [125.307, 122.950, 113.865], atol=1e-3)
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    assert data.classes[data.train_labels[0]] == "frog"


def test_support2_patients(real):
    table = real("support2")
    assert table.shape == (9105, 48)
    assert table["hospdead"].mean() == pytest.approx(0.259, abs=5e-4)
    young = table[table["age"] < 20]
    assert (len(young), young["hospdead"].sum()) == (35, 7)
    assert not {"hospdead", "death", "surv2m"} & set(support2.predictors(table).columns)


@heavy
def test_adult_people(real):
    table = real("adult")
    assert table["split"].value_counts().to_dict() == {"train": 32_561, "test": 16_281}
    assert set(table["income"]) == set(datasets.info("adult").classes)
    assert (table.loc[table["split"] == "train", "income"] == ">50K").sum() == 7841


@heavy
def test_spam_assassin_emails(real):
    emails = real("spam-assassin")
    counts = {group: emails.groups.count(group) for group in spam_assassin.GROUPS}
    assert counts == dict(zip(spam_assassin.GROUPS, (2500, 1400, 250, 500, 1396), strict=True))
    assert emails.labels.sum() == 1896
    texts = emails.texts(deduplicate=True)
    assert len(set(texts.texts)) == len(texts.texts) < len(emails.raw) == 6046
    assert texts.undecodable < 300


def test_shakespeares_plays(real):
    plays = real("shakespeare")
    assert len(plays.names) == len(plays.groups) == len(plays.texts) == 38
    assert (plays.names[0], plays.groups[0]) == ("a-midsummer-night-s-dream", "comedies")
    assert len(plays.characters) == 84
    assert sum(map(len, plays.texts)) == 5_318_730
    assert "To be, or not to be: that is the question" in plays.texts[plays.names.index("hamlet")]


@heavy
def test_messages_of_twenty_newsgroups(real):
    news = real("20-newsgroups")
    assert (len(news.train_texts), len(news.test_texts)) == (11_293, 7_528)
    assert set(news.train_labels) == set(news.test_labels) == set(range(20))
    counts = np.bincount(news.train_labels)
    assert [counts[news.classes.index(name)] for name in ("alt.atheism", "rec.sport.hockey")] == [480, 600]
    assert all(set(text) <= set("abcdefghijklmnopqrstuvwxyz ") for text in news.train_texts)


@heavy
def test_minilm_knows_sentences_that_mean_the_same(real):
    import transformers

    folder = real("minilm-l6").folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    assert sum(weights.numel() for weights in model.parameters()) == pytest.approx(22.7e6, rel=1e-2)
    texts = ["the rocket reached its orbit", "a satellite was launched into space", "my car needs a new engine"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    likeness = means @ means.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2


@heavy
def test_efficientnet_features(real):
    real("efficientnet-lite0")
    network = datasets.efficientnet.model(progress=False)
    assert not network.training
    assert sum(weights.numel() for weights in network.parameters()) == pytest.approx(4.65e6, rel=1e-2)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features = datasets.efficientnet.features(network, images)
    assert features.shape == (2, 1280)
    features.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@heavy
def test_efficientnet_recognises_photographs(real):
    real("efficientnet-lite0")
    photographs = real("cifar10")
    frogs = photographs.test_images[photographs.test_labels == photographs.classes.index("frog")][:20]
    images = torch.from_numpy(frogs).permute(0, 3, 1, 2) / 255
    images = torch.nn.functional.interpolate(images, size=224, mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        classes = datasets.efficientnet.model(progress=False)((images - 0.5) / 0.5).argmax(1)
    # ImageNet's bullfrog, tree frog and tailed frog: chance would be .3 %
    assert torch.isin(classes, torch.tensor([30, 31, 32])).float().mean() > 0.2


@heavy
def test_folded_batch_norms_change_nothing(real):
    real("efficientnet-lite0")
    network = datasets.efficientnet.model(progress=False)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = datasets.efficientnet.features(network, images)
        folded = datasets.efficientnet.folded(network)
        found = datasets.efficientnet.features(folded, images)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
