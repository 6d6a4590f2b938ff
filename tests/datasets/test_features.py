"""Features computed once: cached by content, resumed block by block, never half-written."""

import sys
from pathlib import Path

import numpy as np
import pytest

from upweight.datasets import efficientnet, pretrained_files, registry
from upweight.datasets import features as module
from upweight.errors import DamagedFileWarning

IMAGES = np.arange(10 * 3 * 4 * 4, dtype=np.uint8).reshape(10, 3, 4, 4)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A network whose feature is the mean level, and a count of the images it saw."""
    seen: list[int] = []
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")

    def compute(network: object, images: np.ndarray) -> np.ndarray:
        if len(seen) >= 3:
            raise KeyboardInterrupt
        seen.append(len(images))
        return images.reshape(len(images), -1).mean(1, keepdims=True).astype(np.float32)

    monkeypatch.setenv("UPWEIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "_features", compute)
    files = pretrained_files.PretrainedFiles(registry.info(efficientnet.NAME), weights, tmp_path)
    # The package's name `load` is the function; the module is found by its full name.
    monkeypatch.setattr(sys.modules["upweight.datasets.load"], "load", lambda name, progress=True: files)
    monkeypatch.setattr(efficientnet, "model", lambda progress=True: None)
    monkeypatch.setattr(efficientnet, "folded", lambda network: network)
    monkeypatch.setattr(module, "of_levels", lambda network: network)
    return seen


def test_features_are_computed_once(calls: list[int]) -> None:
    first = module.cached_features(IMAGES)
    np.testing.assert_allclose(first[:, 0], IMAGES.reshape(10, -1).mean(1))
    assert calls == [4, 4, 2]
    np.testing.assert_array_equal(module.cached_features(IMAGES), first)
    assert calls == [4, 4, 2]


def test_an_interrupted_run_keeps_its_blocks_and_other_images_are_others(calls: list[int], tmp_path: Path) -> None:
    module.cached_features(IMAGES[:8])
    other = IMAGES.copy()
    other[0] += 1
    with pytest.raises(KeyboardInterrupt):
        module.cached_features(np.concatenate([other, IMAGES[8:]]))
    assert calls == [4, 4, 4]
    files = [path.name for path in (tmp_path / "cache").rglob("*.block")]
    assert len(files) == 3
    assert not any(name.startswith(".") for name in files)


def test_a_damaged_block_is_named_and_computed_again(calls: list[int], tmp_path: Path) -> None:
    first = module.cached_features(IMAGES[:8])
    place = sorted((tmp_path / "cache").rglob("*.block"))[0]
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    with pytest.warns(DamagedFileWarning, match=place.name):
        np.testing.assert_array_equal(module.cached_features(IMAGES[:8]), first)
    assert calls == [4, 4, 4]
    np.testing.assert_array_equal(module.cached_features(IMAGES[:8]), first)


def test_stored_images_are_bytes_at_their_size() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    stored = module.stored_at(images, 16)
    assert stored.shape == (2, 3, 16, 16)
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(module.stored_at(images, 8), images.transpose(0, 3, 1, 2))
