"""Weights and source of a pretrained network, as files of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo

PACKAGE = "efficientnet_lite_pytorch"
_WEIGHTS = "efficientnet-lite0.pth"


@dataclass(frozen=True)
class PretrainedFiles:
    """Paths of a pretrained network, in the cache.

    Attributes
    ----------
    info : the data set's entry in the registry
    weights : a state dict, as ``torch.load`` reads it
    source : the folder of the model's Python package
    """

    info: DatasetInfo
    weights: Path
    source: Path


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Keep the weights file of the first archive, and the Python source of the second."""
    weights, source = archives
    for _, content in members(weights, lambda path: path.endswith(".pth")):
        (entry / _WEIGHTS).write_bytes(content)
    (entry / PACKAGE).mkdir()
    for path, content in members(source, lambda path: PurePosixPath(path).match(f"{PACKAGE}/*.py")):
        (entry / PACKAGE / PurePosixPath(path).name).write_bytes(content)


def read(entry: Path, info: DatasetInfo) -> PretrainedFiles:
    """The paths within a cache entry."""
    return PretrainedFiles(info, entry / _WEIGHTS, entry / PACKAGE)
