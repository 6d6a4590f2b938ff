"""The report is one file that shows what was given, loads nothing and replaces the old one whole."""

import base64
import inspect
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing
from PIL import Image

from upweight import plots
from upweight.report import Facts, Figure, Images, Meaning, Report, Table, Text, Warnings
from upweight.report.embed import MOST_POINTS, _points
from upweight.report.page import acting

VOID = {"meta", "img", "br", "link", "input", "hr"}
UNCHECKED_SECTION = inspect.unwrap(Report.section)  # without the tests' check of types, which users do not have
NASTY = "<script>alert('x')</script> & \"$q$\" --> ]]>"


class Page(HTMLParser):
    """The elements of a page in order, each with its attributes and its own text; refuses bad nesting."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> is given twice"
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2].append(data)

    def find(self, tag, **wanted):
        found = [(attrs, "".join(text).strip()) for name, attrs, text in self.elements if name == tag]
        return [item for item in found if all(item[0].get(key) == value for key, value in wanted.items())]


def line_drawing(points=3, marker="o"):
    figure = Drawing()
    figure.add_subplot().plot(np.arange(points), np.arange(points), marker=marker)
    return figure


def full_report():
    image = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    return (
        Report(f"Title {NASTY}", f"First.\n\nSecond {NASTY}")
        .section(
            f"One {NASTY}",
            Text(f"{NASTY}\n\nnext"),
            Meaning(f"q {NASTY}", f"s {NASTY}", f"u {NASTY}"),
            Facts({f"n {NASTY}": 5, "words": NASTY}),
            Warnings([NASTY]),
        )
        .section(
            "Two",
            Table([f"c {NASTY}", "score"], [[NASTY, 0.5], [None, 1e-9]], NASTY),
            Figure(line_drawing(), NASTY, NASTY),
            Figure(plots.ranking_bars([NASTY], [1.0], unit="", quantity=NASTY, title=NASTY), "second", "second"),
            Images([image, image], [NASTY, "b"], ["helpful", "harmful"], NASTY),
        )
    )


def pixels_at(address):
    kind, data = address.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


def test_the_page_is_well_formed_with_ids_that_are_unique_and_links_that_lead_somewhere():
    page = Page(full_report().html())
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    references = [attrs.get(key, "") for _, attrs, _ in page.elements for key in ("href", "xlink:href")]
    references += re.findall(r"url\((#[^)]*)\)", full_report().html())
    inner = {reference[1:] for reference in references if reference.startswith("#")}
    assert inner
    assert inner <= set(ids)
    labels = [attrs["aria-labelledby"] for _, attrs, _ in page.elements if "aria-labelledby" in attrs]
    assert set(labels) <= set(ids)


def test_nothing_is_loaded():
    html = full_report().html()
    page = Page(html)
    assert not re.search(r"https?://|@import|<link|<iframe", html)
    assert html.count("<script") <= 1
    loading = ("src", "href", "xlink:href", "srcset", "data", "poster", "action")
    addresses = [attrs[key] for _, attrs, _ in page.elements for key in loading if key in attrs]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    [(policy, _)] = page.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]


def test_user_text_is_shown_as_text_everywhere():
    html = full_report().html()
    page = Page(html)
    assert [text for _, text in page.find("script")] in ([], [acting(sorting=True, filtering=False)[0]])
    assert html.count("&lt;script&gt;") >= 15
    assert page.find("h1")[0][1] == f"Title {NASTY}"
    assert page.find("h2")[0][1] == f"One {NASTY}"
    assert NASTY in [text for _, text in page.find("td")]
    assert f"c {NASTY}" in [text for _, text in page.find("th")]
    assert NASTY in [text for _, text in page.find("li")]
    assert [text for _, text in page.find("dd")][:3] == [f"{letter} {NASTY}" for letter in "qsu"]
    assert page.find("img")[0][0]["alt"] == f"Image 1: {NASTY}"
    assert page.find("svg")[0][0]["aria-label"] == NASTY


def test_contents_lead_to_every_section():
    page = Page(
        Report("T").section("A b!", Text("x")).section("A b?").section("42", anchor="Own.1").section("42").html()
    )
    assert [attrs["id"] for attrs, _ in page.find("h2")] == ["a-b", "a-b-2", "Own.1", "section-42"]
    links = [(attrs["href"], text) for attrs, text in page.find("a") if not attrs.get("class")]
    assert links == [("#a-b", "A b!"), ("#a-b-2", "A b?"), ("#Own.1", "42"), ("#section-42", "42")]


def test_embedded_images_are_the_same_pixels():
    rng = np.random.default_rng(1)
    grey, colour = rng.integers(0, 256, (7, 5), np.uint8), rng.integers(0, 256, (200, 6, 3), np.uint8)
    page = Page(Report("T").section("S", Images([grey, colour], ["grey", "colour"])).html())
    (first, _), (second, _) = page.find("img")
    np.testing.assert_array_equal(pixels_at(first["src"]), grey)
    np.testing.assert_array_equal(pixels_at(second["src"]), colour)
    assert (first["width"], first["height"]) == ("5", "7")
    assert first["class"] == "crisp"
    assert "class" not in second  # large images are reduced, where hard edges would lose lines


def test_tones_are_written_not_only_coloured():
    images = Images(np.zeros((3, 2, 2)), ["a", "b", "c"], ["helpful", "harmful", "neutral"])
    page = Page(Report("T").section("S", images).html())
    assert [text for _, text in page.find("strong")] == ["helpful", "harmful"]
    assert [attrs["class"] for attrs, _ in page.find("li")] == ["example helpful", "example harmful", "example neutral"]


def test_tables_align_numbers_and_keep_all_digits_at_hand():
    rows = [["a", 3, 0.123456], ["b", None, 2.0]]
    page = Page(Report("T").section("S", Table(["id", "n", "score"], rows, "What it shows", digits=2)).html())
    assert [(attrs["scope"], attrs.get("class")) for attrs, _ in page.find("th")] == [
        ("col", None),
        ("col", "number"),
        ("col", "number"),
    ]
    assert [text for _, text in page.find("td")] == ["a", "3", "0.12", "b", "–", "2.0"]
    assert page.find("td")[2][0]["title"] == "0.123456"
    assert [text for _, text in page.find("caption")] == ["What it shows"]


def test_a_table_of_no_rows_says_so():
    page = Page(Report("T").section("S", Table(["a", "b"], [], "c")).html())
    assert page.find("td") == [({"class": "none", "colspan": "2"}, "no rows")]


def test_that_there_are_no_warnings_is_said():
    assert "No warnings." in Report("T").section("S", Warnings([])).html()
    assert "No warnings." not in Report("T").section("S", Warnings(["x"])).html()


def test_small_figures_become_lines_and_large_ones_pixels():
    def tags(figure):
        page = Page(Report("T").section("S", Figure(figure, "c", "in words")).html())
        assert all(attrs["alt"] == "in words" for attrs, _ in page.find("img"))
        return [tag for tag in ("svg", "img") if page.find(tag)]

    assert tags(line_drawing()) == ["svg"]
    assert tags(line_drawing(MOST_POINTS + 1)) == ["img"]
    points = sum(map(_points, line_drawing(MOST_POINTS).findobj()))
    assert tags(line_drawing(2 * MOST_POINTS - points)) == ["svg"]  # all its marks together are as many as may be
    assert tags(line_drawing(MOST_POINTS + 1, marker="None")) == ["svg"]
    assert tags(plots.example_grid(np.zeros((1, 2, 2)), ["a"])) == ["img"]
    scatter = plots.influence_against(np.arange(2.0 * MOST_POINTS), np.ones(2 * MOST_POINTS), xlabel="x", unit="")
    assert tags(scatter) == ["img"]


def test_the_same_report_is_the_same_bytes():
    assert full_report().html() == full_report().html()


def test_save_makes_folders_and_replaces_the_old_page(tmp_path):
    path = tmp_path / "a" / "b" / "page.html"
    old = os.umask(0o022)
    try:
        assert Report("Old").save(path) == path
        Report("Ünïcode \udc80").save(str(path))
    finally:
        os.umask(old)
    text = path.read_text(encoding="utf-8")
    assert "Ünïcode \\udc80" in text
    assert "Old" not in text
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failure_in_drawing_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    Report("Old").save(path)
    before = path.read_bytes()
    broken = line_drawing()
    monkeypatch.setattr(broken, "draw", lambda renderer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Report("New").section("S", Figure(broken, "c", "a")).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_in_writing_leaves_the_old_page_and_no_draft(tmp_path, monkeypatch, step):
    path = tmp_path / "page.html"
    Report("Old").save(path)

    def fail(*_):
        assert path.read_text(encoding="utf-8").count("Old")
        raise OSError("no space left")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        Report("New").save(path)
    assert "Old" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Report(" "), "title: got no text"),
        (lambda: Report("T").section(""), "title: got no text"),
        (lambda: UNCHECKED_SECTION(Report("T"), "S", "plain text"), r"blocks\[0\]: got str"),
        (lambda: Report("T").section("S", anchor="a b"), "anchor: got 'a b'"),
        (lambda: Report("T").section("S").section("U", anchor="s"), "anchor: 's' is taken"),
        (lambda: Table([], [], "c"), "columns: got none"),
        (lambda: Table(["a"], [[1], [1, 2]], "c"), r"rows\[1\]: got 2 cells for 1 columns"),
        (lambda: Table(["a"], [], "c", digits=0), "digits: got 0"),
        (lambda: Facts({}), "facts: got none"),
        (lambda: Figure(Drawing(), "c", " "), "alt: got no text"),
        (lambda: Images([], []), "images: got none"),
        (lambda: Images(np.zeros((2, 3, 3)), ["a"]), "captions: got 1 for 2 images"),
        (lambda: Images(np.zeros((1, 3, 3)), ["a"], ["good"]), "tones: got 'good'"),
        (lambda: Warnings("one text"), "messages: got the text"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_images_in_pairs_keep_an_even_number_of_columns():
    image = np.zeros((2, 2))
    pairs, single = (
        Page(Report("T").section("S", Images([image, image], ["a", "b"], pairs=pairs)).html())
        for pairs in (True, False)
    )
    assert [attributes["class"] for attributes, _ in pairs.find("figure")] == ["gallery pairs"]
    assert [attributes["class"] for attributes, _ in single.find("figure")] == ["gallery"]
