"""EfficientNet-Lite0 pretrained on ImageNet: 4.65 M parameters, plain PyTorch.

The model's source comes as a package too. It is imported from the cache under a private name, not installed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from upweight.datasets.load import load
from upweight.datasets.pretrained_files import PACKAGE

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

NAME = "efficientnet-lite0"
"""The data set's name in the registry."""

_IMPORTED_AS = f"_upweight_cached_{PACKAGE}"


def model(*, progress: bool = True) -> nn.Module:
    """The pretrained network on the CPU in evaluation mode, fetched first if it is not in the cache.

    It takes images, float [n, 3, height, width] scaled to −1 … 1, and returns 1,000 ImageNet logits each.

    Raises
    ------
    DataUnavailable
        If weights or source cannot be had.
    """
    import torch

    files = load(NAME, progress=progress)
    network = _import(files.source).EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(files.weights, map_location="cpu", weights_only=True))
    return cast("nn.Module", network.eval())


def features(network: nn.Module, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 1280"]:
    """The 1,280 pooled features in front of the classifier; differentiable in the images.

    Parameters
    ----------
    network : what ``model`` returns
    images : float [n, 3, height, width] in 0 … 1; trained at 224 × 224, and 128 × 128 serves too
    """
    extract = cast("Any", network).extract_features
    return cast("Tensor", extract((images - 0.5) / 0.5).mean((2, 3)))


def folded(network: nn.Module) -> nn.Module:
    """A copy in which each batch norm is part of the convolution before it: the same function, some 1.5 times faster.

    Parameters
    ----------
    network : what ``model`` returns
    """
    import copy

    from torch import nn as layers
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    found = cast("Any", copy.deepcopy(network))
    pairs = [(found, "_conv_stem", "_bn0"), (found, "_conv_head", "_bn1")]
    for block in found._blocks:
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
    for owner, convolution, norm in pairs:
        setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
        setattr(owner, norm, layers.Identity())
    return cast("nn.Module", found)


def _import(source: Path) -> ModuleType:
    """Import the package in folder ``source``; its content has been verified on the way to here."""
    loaded = sys.modules.get(_IMPORTED_AS)
    if loaded is not None and loaded.__file__ == str(source / "__init__.py"):
        return loaded
    spec = importlib.util.spec_from_file_location(
        _IMPORTED_AS, source / "__init__.py", submodule_search_locations=[str(source)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[_IMPORTED_AS] = package  # its own relative imports look here
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[_IMPORTED_AS]
        raise
    return package
