"""How values of each kind are read."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import ItemsView, KeysView, ValuesView
from typing import Any

import numpy as np
import torch
from torch import nn

from upweight.retraining.fingerprint import arrays, code, objects
from upweight.retraining.fingerprint.walk import LOCKS, Reader, Walk


def reader(value: Any) -> Reader:
    """How a value of this kind is read."""
    kind = type(value)
    for kinds, reader in EXACTLY:
        if kind in kinds:
            return reader
    for kinds, reader in ALSO_DERIVED:
        if isinstance(value, kinds):
            return reader
    return arrays.of_pandas(value) or objects.pickled


EXACTLY: list[tuple[tuple[type, ...], Reader]] = [
    ((list,), Walk.sequence),
    ((dict, types.MappingProxyType), Walk.mapping),
    ((set,), Walk.set),
    ((weakref.ref,), Walk.again),
    ((torch.Generator,), Walk.generator),
    (LOCKS, Walk.lock),
    ((np.ndarray, np.memmap), arrays.array),
    ((types.BuiltinFunctionType,), code.builtin),
    ((types.MethodType,), code.method),
    ((types.CodeType,), code.compiled),
    ((types.CellType,), code.cell),
    ((property,), code.of_property),
    ((staticmethod, classmethod), code.inner),
    ((functools._lru_cache_wrapper,), code.cached),
    ((types.GetSetDescriptorType, types.MemberDescriptorType), code.descriptor),
]
ALSO_DERIVED: list[tuple[tuple[type, ...], Reader]] = [
    ((KeysView, ValuesView, ItemsView), Walk.listed),
    ((functools.partial,), Walk.partial),
    ((types.FunctionType,), code.function),
    ((types.ModuleType,), code.module),
    ((type,), code.of_class),
    ((torch.Tensor,), arrays.tensor),
    ((np.generic,), arrays.array),
    ((np.dtype,), arrays.dtype),
    ((nn.Module,), objects.of_module),
]
