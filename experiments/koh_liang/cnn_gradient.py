"""Gradients of the network of `cnn` at many θ on the same images: compiled where there is a C++ compiler, else torch.

torch's convolutions take most of their time on copies where there are 8 channels; one small kernel made for this
network is what makes the paper's 500,000 steps and 100 retrainings a matter of hours.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

SOURCE = Path(__file__).with_name("cnn_gradient.cpp")
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-funroll-loops", "-std=c++17", "-fPIC")
MADE = Path(__file__).parent / ".made"


def losses_and_gradients(
    model: nn.Module,
    params: Float[Tensor, "k p"],
    images: Float[Tensor, "n 1 28 28"],
    labels: Int[Tensor, " n"],
    weights: Float[Tensor, "k n"],
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
    """Σ_i w_ji ℓ_i(θ_j) and its gradient for each j: computed in the images' precision, summed in float64."""
    kernel = library()
    if kernel is None:
        return by_torch(model, params, images, labels, weights)
    theta, pixels, weight = (part.to(images.dtype).contiguous() for part in (params, images, weights))
    target = labels.contiguous()
    losses = torch.empty(len(theta), dtype=torch.float64)
    gradients = torch.empty(theta.shape, dtype=torch.float64)
    run = kernel.in_float64 if images.dtype == torch.float64 else kernel.in_float32
    k, n = ctypes.c_int64(len(theta)), ctypes.c_int64(len(pixels))
    run(_at(theta), k, _at(pixels), _at(target), _at(weight), n, _at(losses), _at(gradients))
    return losses, gradients


def by_torch(
    model: nn.Module, params: Tensor, images: Tensor, labels: Tensor, weights: Tensor
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
    """The same by automatic differentiation, model by model."""
    names, shapes = zip(*((name, value.shape) for name, value in model.named_parameters()), strict=True)
    sizes = [shape.numel() for shape in shapes]
    losses, gradients = [], []
    for theta, weight in zip(params, weights, strict=True):
        point = theta.detach().to(images.dtype).requires_grad_()
        named = {name: v.view(shape) for name, v, shape in zip(names, point.split(sizes), shapes, strict=True)}
        outputs = functional_call(model, named, images)
        loss = (weight * nn.functional.cross_entropy(outputs, labels, reduction="none")).sum()
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, point)[0])
    return torch.stack(losses).double(), torch.stack(gradients).double()


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, if there is a compiler; built at first use, and again when its source changes."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        return None
    name = hashlib.sha256(SOURCE.read_bytes() + " ".join((compiler, *FLAGS)).encode()).hexdigest()[:16]
    path = MADE / f"cnn_gradient-{name}.so"
    if not path.exists():
        MADE.mkdir(exist_ok=True)
        draft = MADE / f"{name}-{os.getpid()}.draft"
        compiled = draft.with_suffix(".o")
        # Linked without -ffast-math: a library linked with it flushes denormals in the whole process that loads it.
        for command in ([compiler, *FLAGS, "-c", SOURCE, "-o", compiled], [compiler, "-shared", compiled, "-o", draft]):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return None  # another compiler, another processor
        compiled.unlink()
        os.replace(draft, path)
    return ctypes.CDLL(str(path))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
