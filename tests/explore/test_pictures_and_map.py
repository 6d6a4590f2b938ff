"""Small pictures of images, and the picture of the map."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upweight.explore.map import HEIGHT, MARGIN, WIDTH, Map
from upweight.explore.pictures import LARGEST, UNSHOWN, thumbnails


def read(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_numbers_become_colours_alike_in_all() -> None:
    found, lost = thumbnails(np.array([[[0.0, 1.0]], [[0.5, 0.5]]]))
    assert lost == 0
    assert [read(each).tolist() for each in found] == [[[0, 255]], [[128, 128]]]
    digits, _ = thumbnails(torch.tensor([[[0.0, 16.0]], [[8.0, 4.0]]]))
    assert [read(each).tolist() for each in digits] == [[[0, 255]], [[128, 64]]]


def test_files_are_read_and_what_is_none_is_counted(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "good.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    found, lost = thumbnails([tmp_path / "good.png", str(tmp_path / "good.png"), tmp_path / "torn.png", "missing.png"])
    assert lost == 2
    assert [each == UNSHOWN for each in found] == [False, False, True, True]
    assert (read(found[0]) == colours).all()
    assert found[0] == found[1]


def test_bytes_stay_as_they_are_and_large_images_become_small() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 50), dtype=np.uint8)
    found, _ = thumbnails(colours)
    assert (read(found[1]) == np.moveaxis(colours[1], 0, -1)).all()
    large, _ = thumbnails([Image.new("RGB", (400, 200), (255, 0, 0))])
    assert read(large[0]).shape == (LARGEST // 2, LARGEST, 3)


def test_what_is_no_image_is_counted_and_left_out() -> None:
    found, lost = thumbnails([np.zeros((3, 3)), np.full((3, 3), np.nan), np.zeros(5), "no image"])
    assert lost == 3
    assert [each == UNSHOWN for each in found] == [False, True, True, True]


def test_a_click_finds_the_example_that_lies_there() -> None:
    random = np.random.default_rng(0)
    found = Map.of(random.normal(size=500), random.normal(size=500))
    assert found.places[:, 0].min() == MARGIN
    assert found.places[:, 0].max() == WIDTH - MARGIN
    assert found.places[:, 1].max() == HEIGHT - MARGIN
    for place in (3, 77):
        assert found.at(*found.places[place]) == place
    assert Map.of(np.array([0.0, 1.0]), np.array([0.0, 1.0])).at(WIDTH / 2, HEIGHT / 2) is None


def test_up_is_up_and_one_far_away_does_not_make_all_others_a_dot() -> None:
    y = np.array([0.0, 1.0] * 500 + [1e9])
    found = Map.of(np.arange(1001.0), y)
    assert found.places[1, 1] < found.places[0, 1]
    assert found.places[0, 1] - found.places[1, 1] > HEIGHT / 2


def test_the_picture_is_clear_where_nothing_lies_and_stronger_where_much_does() -> None:
    x = np.array([0.0] * 50 + [1.0])
    picture = read(Map.of(x, x, np.array(["a"] * 50 + ["b"])).picture())
    assert picture.shape == (HEIGHT, WIDTH, 4)
    many, one = picture[HEIGHT - MARGIN + 1, MARGIN + 1], picture[MARGIN + 1, WIDTH - MARGIN + 1]
    assert many[3] > one[3] > 0
    assert not (many[:3] == one[:3]).all()
    assert picture[HEIGHT // 2, WIDTH // 2, 3] == 0


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_examples_that_all_lie_in_one_place_or_nowhere_are_drawn(value: float) -> None:
    assert read(Map.of(np.full(4, value), np.full(4, value)).picture())[..., 3].max() > 0
