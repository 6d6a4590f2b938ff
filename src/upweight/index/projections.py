"""How an example's gradient becomes a row of few numbers: settings, from which each projector is made.

`Leading`: the entries of the gradient in K-FAC's eigenbasis that carry most of the curvature, whatever their layer.
`Factored`: Aᵀ G B of every layer, as LoGra (Choe et al. 2024, arXiv 2405.13954). `Sparse`: a random sketch of the whole
gradient, as TRAK's. `LowRank`: factors of each layer's gradient of rank c, as LoRIF (arXiv 2601.21929).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from upweight import scalars
from upweight.errors import InputError

Basis = Literal["random", "leading"]


@dataclass(frozen=True)
class Leading:
    """The k largest entries of gradients in the eigenbasis of K-FAC's factors; the default.

    With Q_L, Q_R the eigenvectors of a layer's two factors, the entries of Q_Lᵀ G Q_R are nearly uncorrelated, and
    their second moments Λ (George et al. 2018, EK-FAC) say what each contributes to the curvature. Of all layers
    together those with the largest Λ are kept. Needs a pass for the factors and one for Λ before that of the rows; the
    columns of Q_L and Q_R that are used are kept in the store.

    Attributes
    ----------
    dimension
        k; all entries where there are fewer.
    seed
        Of the targets drawn for K-FAC's Fisher matrix.
    """

    dimension: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.whole("dimension", self.dimension)
        scalars.seed("seed", self.seed)


@dataclass(frozen=True)
class Factored:
    """Aᵀ G B of every layer: ``size`` rows and columns of each, as LoGra.

    Attributes
    ----------
    size
        Columns of A and of B; a side that has no more is kept as it is.
    basis
        ``random``: normal entries with E[AAᵀ] = I, made from the seed; ``leading``: eigenvectors of K-FAC's factors
        (LoGra's initialisation by principal components), which take a pass and are kept in the store.
    seed
        Of the normal entries, or of the targets drawn for K-FAC's Fisher matrix.
    """

    size: int = 16
    basis: Basis = "leading"
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.whole("size", self.size)
        scalars.one_of("basis", self.basis, get_args(Basis))
        scalars.seed("seed", self.seed)


@dataclass(frozen=True)
class Sparse:
    """A random sketch of the whole gradient with E[PPᵀ] = I, taken from its factors (`upweight.baselines.sketch`).

    Attributes
    ----------
    dimension
        Columns of P; gradients are kept as they are where they have no more numbers.
    seed
        Of the places and signs.
    """

    dimension: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.whole("dimension", self.dimension)
        scalars.seed("seed", self.seed)


@dataclass(frozen=True)
class LowRank:
    """Factors L, R of each layer's gradient, LᵀR being its best approximation of rank c; projected first, or not.

    Where a layer meets each example once (t = 1) gradients have rank 1, and nothing is lost. The inverse is taken in
    the span of the r leading eigenvectors of the curvature's rows, by truncated SVD and Woodbury's identity, and every
    example has r coefficients beside its factors.

    Attributes
    ----------
    rank
        c of every layer.
    size
        Sides are projected to so many numbers before, as by `Factored`; None: not.
    basis, seed
        As of `Factored`.
    rows
        Rows of the curvature that the eigenvectors are taken from.
    curvature_rank
        r.
    coefficients
        Whether every example's r coefficients are kept too. Otherwise each scoring makes them anew, of as many products
        as there are ``rows``.

    Notes
    -----
    With ``curvature=EmpiricalFisher()`` an index of more examples than ``rows`` takes that of a sample, whose own
    examples are then damped by themselves and the others not: agreement with retraining suffers. The GGN's rows are
    chosen by their size among all examples.
    """

    rank: int = 1
    size: int | None = None
    basis: Basis = "leading"
    seed: int = 0
    rows: int = 2500
    curvature_rank: int = 1000
    coefficients: bool = True

    def __post_init__(self) -> None:
        scalars.whole("rank", self.rank)
        if self.size is not None:
            scalars.whole("size", self.size)
        scalars.one_of("basis", self.basis, get_args(Basis))
        scalars.seed("seed", self.seed)
        scalars.whole("rows", self.rows)
        scalars.whole("curvature_rank", self.curvature_rank)
        scalars.flag("coefficients", self.coefficients)


Projection = Leading | Factored | Sparse | LowRank
KINDS: dict[str, type[Projection]] = {kind.__name__: kind for kind in (Leading, Factored, Sparse, LowRank)}


def said(projection: Projection) -> dict[str, Any]:
    """Settings as a description holds them."""
    return {"kind": type(projection).__name__, **asdict(projection)}


def read(described: Any) -> Projection:
    """Settings from a description.

    Raises
    ------
    InputError
        If they are none.
    """
    try:
        given = dict(described)
        return KINDS[given.pop("kind")](**given)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"store: the index's projection can't be {described!r} ({error})") from error
