"""A table's file with other answers: in its own format, read back as what was put there, all else as it was."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from upweight.report.numbers import all_digits
from upweight.tabular import Rewritten, read_labelled, rewritten
from upweight.tabular.numerals import like

ROWS = 40
VALUES = np.round(np.random.default_rng(0).normal(1500, 900, ROWS), 2)
NEW = {0: 1234.5, 3: -7.25, 5: 100000.0, 39: 0.5}
WRITTEN = {
    "points": ("{:.2f}", "."), "commas": ("{:.2f}", ","), "euros": ("{:.2f} €", ","), "dollars": ("${:.2f}", "."),
    "a code before": ("EUR {:.2f}", ","), "per cent": ("{:.2f}%", "."),
}  # fmt: skip
MARK = "=HYPERLINK(1)"


def back(given: Rewritten, folder: Path) -> Any:
    """What was written, as a file of its kind."""
    path = folder / f"again{given.ending}"
    path.write_bytes(given.content)
    return path


@pytest.mark.parametrize("name", list(WRITTEN))
@pytest.mark.parametrize("separator", [",", ";"])
def test_numbers_are_written_as_the_column_s_are_and_read_back(tmp_path: Path, name: str, separator: str) -> None:
    form, mark = WRITTEN[name]
    texts = [form.format(value).replace(".", mark) for value in VALUES]
    path = tmp_path / "given.csv"
    pd.DataFrame({"x": VALUES % 7 // 0.01 / 100, "y": texts}).to_csv(path, sep=separator, index=False)
    table = read_labelled(path, "y")
    assert table.labels.tolist() == VALUES.tolist()
    found = rewritten(table, NEW, [7])
    again = read_labelled(back(found, tmp_path), "y")
    expected = VALUES.copy()
    expected[list(NEW)] = list(NEW.values())
    assert again.labels.tolist() == np.delete(expected, 7).tolist()
    before, after = path.read_text().splitlines(), found.content.decode().splitlines()
    del before[8]
    changed = [number - 1 for number, (one, two) in enumerate(zip(before, after, strict=True)) if one != two]
    assert changed == [0, 3, 5, 38]
    assert form.format(NEW[0]).replace(".", mark) in after[1]  # with as many decimals as the column has


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_file_in_another_encoding_is_written_as_utf_8_and_that_is_said(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "given.csv"
    towns = ["Zürich", "Köln", "Malmö", "Graz"] * 10
    pd.DataFrame({"town": towns, "y": [f"{value:.2f}" for value in VALUES]}).to_csv(
        path, index=False, encoding=encoding
    )
    found = rewritten(read_labelled(path, "y"), {0: 1.0}, called="the fixed file")
    assert pd.read_csv(io.BytesIO(found.content))["town"].tolist() == towns
    said = [
        note for note in found.notes if note.startswith("the fixed file is written as UTF-8: given.csv was read as")
    ]
    assert len(said) == (encoding != "utf-8")


@pytest.mark.parametrize(
    ("cells", "value", "text"),
    [
        (["3", "14"], 2.5, "2.5"),
        (["3.5", "14"], 2, "2"),
        (["3.50", "14.25"], 2, "2.00"),
        (["3.50", "1.5e2"], 2, "2"),
        (["3.50", "14.25"], 1 / 3, repr(1 / 3)),
        (["3.50", "14.25"], 1e20, "1e+20"),
    ],
)
def test_a_number_has_the_decimals_that_all_of_a_column_have(cells: list[str], value: float, text: str) -> None:
    assert like(cells, [float(each) for each in cells])(value) == text


def typed(path: Path, target: list[Any]) -> pd.DataFrame:
    """A Parquet or Excel file with text, numbers and gaps beside the target."""
    frame = pd.DataFrame({"x": VALUES % 7, "note": [MARK if k % 2 else "word" for k in range(ROWS)], "y": target})
    frame["gap"] = frame["x"].where(frame["x"] > 3)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
        return frame
    with pd.ExcelWriter(path) as book:
        pd.DataFrame().to_excel(book, sheet_name="empty")
        frame.to_excel(book, sheet_name="mine", index=False)
        frame.to_excel(book, sheet_name="other", index=False)
        for row in book.sheets["mine"].iter_rows(min_row=2):
            row[1].data_type = "s"
        book.sheets["mine"]["A1"].font = openpyxl.styles.Font(color="FF0000")
    return frame


@pytest.mark.parametrize("ending", [".parquet", ".xlsx"])
def test_a_typed_file_keeps_its_format_its_types_and_its_rows(tmp_path: Path, ending: str) -> None:
    frame = typed(tmp_path / f"given{ending}", VALUES.tolist())
    found = rewritten(read_labelled(tmp_path / f"given{ending}", "y"), NEW, [7, 9])
    assert found.ending == ending
    path = back(found, tmp_path)
    again = pd.read_parquet(path) if ending == ".parquet" else pd.read_excel(path, sheet_name="mine")
    expected = frame.copy()
    expected.loc[list(NEW), "y"] = list(NEW.values())
    pd.testing.assert_frame_equal(again.reset_index(drop=True), expected.drop(index=[7, 9]).reset_index(drop=True))
    if ending == ".parquet":
        assert parquet.read_schema(path).equals(parquet.read_schema(tmp_path / "given.parquet"))
    else:
        book = openpyxl.load_workbook(path)
        assert book.sheetnames == ["empty", "mine", "other"]
        assert book["other"].max_row == ROWS + 1
        assert book["mine"]["A1"].font.color.rgb == "00FF0000"
        assert {cell.data_type for (cell,) in book["mine"].iter_rows(min_col=2, max_col=2)} == {"s"}  # no formula
        assert book["mine"].cell(2, 1).value == pytest.approx(frame["x"][0])


@pytest.mark.parametrize("ending", [".parquet", ".xlsx"])
def test_a_class_is_written_as_another_row_of_it_is(tmp_path: Path, ending: str) -> None:
    names = [True, False] if ending == ".parquet" else [f" {MARK}", "no"]
    frame = typed(tmp_path / f"given{ending}", [names[k % 2] for k in range(ROWS)])
    if ending == ".xlsx":
        book = openpyxl.load_workbook(tmp_path / "given.xlsx")
        for (cell,) in book["mine"].iter_rows(min_col=3, max_col=3):
            cell.data_type = "s"
        book.save(tmp_path / "given.xlsx")
    table = read_labelled(tmp_path / f"given{ending}", "y")
    found = rewritten(table, {3: table.classes[table.labels[0]]})
    path = back(found, tmp_path)
    again = pd.read_parquet(path) if ending == ".parquet" else pd.read_excel(path, sheet_name="mine")
    assert again["y"].tolist() == [*frame["y"][:3], names[0], *frame["y"][4:]]
    if ending == ".xlsx":
        assert openpyxl.load_workbook(path)["mine"].cell(5, 3).data_type == "s"


def test_whole_numbers_of_parquet_stay_whole_unless_another_is_put_there(tmp_path: Path) -> None:
    path = tmp_path / "whole.parquet"
    pd.DataFrame({"x": VALUES, "y": np.arange(ROWS) * 3}).to_parquet(path)
    table = read_labelled(path, "y")
    for value, kind in ((11.0, pa.int64()), (11.5, pa.float64())):
        again = parquet.read_table(io.BytesIO(rewritten(table, {2: value}).content))
        assert again.schema.field("y").type == kind
        assert again.column("y").to_pylist()[1:4] == [3, value, 9]


@pytest.mark.parametrize(
    ("kind", "value", "wider"),
    [
        (pa.decimal128(7, 2), 12.5, None),
        (pa.decimal128(7, 2), 12.125, pa.decimal128(7, 3)),
        (pa.uint8(), 7.0, None),
        (pa.uint8(), 300.0, pa.int64()),
        (pa.uint8(), -1.0, pa.int64()),
        (pa.float32(), 0.5, None),
    ],
    ids=str,
)
def test_a_type_of_parquet_is_kept_or_widened_and_said(
    tmp_path: Path, kind: pa.DataType, value: float, wider: pa.DataType | None
) -> None:
    path = tmp_path / "typed.parquet"
    numbers = [Decimal(str(each)) for each in VALUES] if pa.types.is_decimal(kind) else list(range(ROWS))
    parquet.write_table(pa.table({"x": VALUES, "y": pa.array(numbers, type=kind)}), path)
    found = rewritten(read_labelled(path, "y"), {2: value})
    again = parquet.read_table(io.BytesIO(found.content)).column("y")
    assert again.type == (wider or kind)
    assert [float(each) for each in again.to_pylist()] == [*map(float, numbers[:2]), value, *map(float, numbers[3:])]
    assert len(found.notes) == (wider is not None)
    assert wider is None or f"is {wider} in the file, as {kind} can't hold" in found.notes[0]


def test_numbers_that_parquet_holds_as_text_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "text.parquet"
    texts = [f"{value:.2f} €".replace(".", ",") for value in VALUES]
    pd.DataFrame({"x": VALUES % 7, "y": texts}).to_parquet(path)
    again = parquet.read_table(io.BytesIO(rewritten(read_labelled(path, "y"), {2: 12.5}).content))
    assert again.column("y").to_pylist() == [*texts[:2], "12,50 €", *texts[3:]]


def test_formulas_of_excel_are_kept_and_said(tmp_path: Path) -> None:
    path = tmp_path / "sums.xlsx"
    frame = typed(path, VALUES.tolist())
    book = openpyxl.load_workbook(path)
    book["mine"].cell(1, 6).value, book["mine"].cell(2, 6).value = "sum", "=A2+1"
    book.save(path)
    found = rewritten(read_labelled(path, "y"), {2: 12.5})
    assert "1 cells of" in found.notes[0]
    assert "hold formulas: a spreadsheet computes them" in found.notes[0]
    again = openpyxl.load_workbook(back(found, tmp_path))["mine"]
    assert again.cell(2, 6).value == "=A2+1"
    assert again.cell(4, 3).value == 12.5
    assert again.cell(3, 3).value == frame["y"][1]
    assert "before the rows were left out" not in found.notes[0]
    assert "before the rows were left out" in rewritten(read_labelled(path, "y"), {}, {3}).notes[0]


def test_every_value_reads_back() -> None:
    for value in (0.1, 1e-9, 1e22, -123456789.123, 3.0, 2**53 + 0.0):
        assert float(all_digits(value)) == value
