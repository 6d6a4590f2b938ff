"""How much a pass may hold at a time, and what may be kept between passes; in numbers, whatever their precision."""

from __future__ import annotations

from dataclasses import dataclass, fields

from upweight import scalars


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds on memory. None of them changes a result by more than rounding.

    Attributes
    ----------
    gradients
        Numbers in a block of materialised per-example gradients, or of what stands for them.
    factors
        Numbers in the factors of a batch's largest operation.
    kept_features
        Numbers of the features, slopes and curvatures of a linear model that are kept between passes (1 GiB in
        float64).
    output_hessians
        Numbers of the outputs' Hessians of a batch.
    kept_spectra
        Numbers of eigenvectors of the outputs' Hessians that are kept between passes.
    """

    gradients: int = 2**25
    factors: int = 2**23
    kept_features: int = 2**27
    output_hessians: int = 2**26
    kept_spectra: int = 2**24

    def __post_init__(self) -> None:
        for each in fields(self):
            scalars.whole(each.name, getattr(self, each.name), 0)
