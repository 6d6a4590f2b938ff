"""Training data and queries as batches, whatever they come as.

A *batch* is what the user's dataset yields after collation: a tensor, tuple, dict or any nesting of them,
each tensor with the examples along its first dimension. Lists (as torch's ``default_collate`` makes them) come as
tuples and other mappings (``UserDict``, ``BatchEncoding``) as dicts. Batches always come in dataset order, so a
result can name the example by its position.
"""

from upweight.data.arrays import ArrayData
from upweight.data.batch import Batch, batch_length, cast, join, plain, sent, tensors
from upweight.data.interface import Data
from upweight.data.loader import Loaded, loaded
from upweight.data.map_style import MapData
from upweight.data.one_shape import of_one_shape
from upweight.data.read import as_data, is_list_of_arrays

__all__ = [
    "ArrayData",
    "Batch",
    "Data",
    "Loaded",
    "MapData",
    "as_data",
    "batch_length",
    "cast",
    "is_list_of_arrays",
    "join",
    "loaded",
    "of_one_shape",
    "plain",
    "sent",
    "tensors",
]
