"""Tables as people have them become the same frame: encodings, separators, headers, files that aren't text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from upweight.errors import InputError
from upweight.tabular import read_table
from upweight.tabular.frames import read_frame

FRAME = pd.DataFrame({"x": [0.5, 1.25, -3.0], "name": ["Größe", "été", "œuvre"], "n": [1, 2, 3]})
TEXT = FRAME.to_csv(index=False)


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inner.csv", data)
    return buffer.getvalue()


PACKED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gzip": (gzip.compress, "unpacked by gzip"),
    "bzip2": (bz2.compress, "unpacked by bzip2"),
    "xz": (lzma.compress, "unpacked by xz"),
    "zip": (zipped, "inner.csv was read from the archive"),
}
ENCODED = {
    "utf-8": "",
    "utf-8-sig": "",
    "utf-16": "read as UTF-16",
    "utf-16-le": "read as utf-16-le, which was guessed",
    "utf-32": "read as UTF-32",
    "cp1252": "read as cp1252, which was guessed (line 2 is no UTF-8)",
}


def test_a_plain_file_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT, encoding="utf-8")
    found = read_frame(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(found.frame, FRAME, check_dtype=False)
    assert found.notes == ()
    assert found.written is not None
    assert found.written.lines() == [2, 3, 4]


@pytest.mark.parametrize("encoding", ENCODED)
def test_the_encoding_is_found_and_said(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    found = read_frame(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(found.frame, FRAME, check_dtype=False)
    assert "".join(found.notes).startswith(ENCODED[encoding])


@pytest.mark.parametrize(
    ("text", "encoding"), [("имя,y\nИван,1\nПётр,2\nСергей,3\n", "cp1251"), ("a,y\n1 €,2\n3 €,4\n", "cp1252")]
)
def test_other_scripts_and_prices_are_told_apart(text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert encoding in read_frame(tmp_path / "a.csv").notes[0]


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_compressed_is_unpacked_whatever_its_name(kind: str, tmp_path: Path) -> None:
    pack, note = PACKED[kind]
    (tmp_path / "a.csv").write_bytes(pack(TEXT.encode()))
    found = read_frame(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(found.frame, FRAME, check_dtype=False)
    assert found.notes == (note,)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_the_separator_is_found(separator: str, tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False, sep=separator)
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv"), FRAME, check_dtype=False)


def test_columns_that_stand_apart_by_spaces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x    y\n1.5  yes\n-2   no\n10   yes\n")
    found = read_table(tmp_path / "a.txt")
    assert found["x"].tolist() == [1.5, -2, 10]
    assert found["y"].tolist() == ["yes", "no", "yes"]


def test_a_decimal_comma_beside_commas_in_the_header_is_no_separator(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,5;1,5;yes\n2,5;3,5;no\n4,5;5,5;yes\n")
    assert read_table(tmp_path / "a.csv").iloc[:, 0].tolist() == [0.5, 2.5, 4.5]


HEADERS = {
    "39, State-gov, 77516, <=50K\n50, Private, 83311, <=50K\n38, Private, 215646, >50K\n": False,
    "1.5,a\n2.5,b\n3.5,a\n": False,
    "2019,2020,y\n1,2,a\n3,4,b\n": True,  # years over numbers
    "0,1,2\n1.5,2.5,3.5\n4.5,5.5,6.5\n": True,  # as pandas counts columns
    "x,y\n1,a\n2,b\n": True,
    "a,b\nc,d\ne,f\n": True,  # nothing tells
    ",x\n0,1.5\n1,2.5\n": True,
}


@pytest.mark.parametrize(("text", "has_header"), HEADERS.items())
def test_a_missing_header_is_recognised_and_said(text: str, has_header: bool, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    found = read_frame(tmp_path / "a.csv")
    assert len(found.frame) == 2 + (not has_header)
    assert [note.startswith("the first line holds values and no names") for note in found.notes] == [True] * (
        not has_header
    )
    if not has_header:
        assert found.frame.columns[0] == "column 1"
        assert found.written is not None
        assert found.written.lines() == [1, 2, 3]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    when = pd.to_datetime(["2024-01-31", "2024-02-01", None])
    frame = FRAME.assign(when=when, kind=pd.Categorical(["a", "b", "a"]), whole=pd.array([1, None, 3], dtype="Int64"))
    frame.to_parquet(tmp_path / "a.bin")
    found = read_table(tmp_path / "a.bin")
    assert found["when"].isna().tolist() == [False, False, True]
    assert found["kind"].tolist() == ["a", "b", "a"]
    assert found["whole"].dtype == float


def test_the_first_sheet_with_rows_is_read_and_said(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as writer:
        pd.DataFrame().to_excel(writer, sheet_name="cover")
        FRAME.to_excel(writer, sheet_name="data", index=False)
    found = read_frame(tmp_path / "a.xlsx")
    pd.testing.assert_frame_equal(found.frame, FRAME, check_dtype=False)
    assert found.notes == ("read from its sheet 'data', the first with rows; others are 'cover'",)


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    pd.testing.assert_frame_equal(read_table("-"), FRAME, check_dtype=False)


REFUSED = {
    "two in an archive": (None, "holds 2 files"),
    "damaged gzip": (gzip.compress(TEXT.encode())[:30], "can't be unpacked, its gzip is damaged"),
    "zstd": (b"\x28\xb5\x2f\xfd....", "is compressed by zstd"),
    "old Excel": (b"\xd0\xcf\x11\xe0....", "is an Excel file of the old kind"),
    "damaged Parquet": (b"PAR1....", "can't be read as Parquet"),
    "noise": (bytes(range(256)) * 8, "is not UTF-8 text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_by_name(name: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    if data is None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.csv", TEXT)
            archive.writestr("b.csv", TEXT)
        data = buffer.getvalue()
    (tmp_path / "bad.csv").write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_table(tmp_path / "bad.csv")
    assert "bad.csv" in str(caught.value)


def test_one_column_is_written_anew_and_nothing_else(tmp_path: Path) -> None:
    text = 'x;y;note\n0,50;yes;"a; b"\n1,25;no;=1+1\n-2,5;yes;-\n'
    (tmp_path / "a.csv").write_text(text)
    written = read_frame(tmp_path / "a.csv").written
    assert written is not None
    assert written.with_column("y", {1: "yes"}) == text.replace("no;=1+1", "yes;'=1+1")


def test_numbers_of_a_file_that_writes_decimal_commas(tmp_path: Path) -> None:
    """1.234 is a thousand and more there, though no cell of its column says so."""
    random = np.random.default_rng(0)
    rows = [f"{a},5;{1 + b % 9}.{b:03d};{c}" for a, b, c in random.integers(0, 999, (20, 3))]
    (tmp_path / "a.csv").write_text("a;b;c\n" + "\n".join(rows) + "\n")
    found = read_table(tmp_path / "a.csv")
    assert (found["b"] >= 1000).all()
    assert (found["a"] % 1 == 0.5).all()
