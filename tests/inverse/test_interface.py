"""Every exported inverse keeps what all of them promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

import upweight.inverse
from inverse.interface import PROBLEMS, InverseTests
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.inverse import (
    CG,
    EKFAC,
    KFAC,
    LSMR,
    Arnoldi,
    DataInf,
    Dense,
    Diagonal,
    Dual,
    Identity,
    InMetric,
    Inverse,
    LiSSA,
    Nystrom,
    StepMetric,
)

FISHER = EmpiricalFisher()


def metric_of(problem: str) -> dict[str, torch.Tensor]:
    """Numbers > 0 by parameter."""
    generator = torch.Generator().manual_seed(0)
    named = PROBLEMS[problem]().model.named_parameters()
    return {name: 0.5 + torch.rand(value.shape, generator=generator).double() for name, value in named}


class TestDense(InverseTests):
    inverse = Dense(damping=0.1)


class TestDenseByItsSpectrum(InverseTests):
    inverse = Dense(GGN(), damping=0.1, method="eigen")


class TestDenseOfAnySignature(InverseTests):
    inverse = Dense(damping=0.1, indefinite=True)


class TestDual(InverseTests):
    inverse = Dual(damping=0.1)
    by_rows = True


class TestDualOfSomeRows(InverseTests):
    inverse = Dual(damping=0.1, rows=10)
    by_rows = True


class TestCG(InverseTests):
    inverse = CG(damping=0.1)


class TestCGByDense(InverseTests):
    inverse = CG(damping=0.1, preconditioner=Dense())
    models = ("linear", "network")  # for speed


class TestCGByCG(InverseTests):
    inverse = CG(damping=0.1, preconditioner=CG(tolerance=1e-12))
    models = ("linear", "network")  # for speed


class TestCGByLSMR(InverseTests):
    inverse = CG(damping=0.1, preconditioner=LSMR(tolerance=1e-12))
    models = ("linear", "network")  # for speed


class TestCGByLiSSA(InverseTests):
    inverse = CG(damping=0.1, preconditioner=LiSSA(batch_size=None, repeats=1, depth=20))
    models = ("linear", "network")  # for speed


class TestLSMR(InverseTests):
    inverse = LSMR(damping=0.1)
    models = ("linear", "network")  # for speed


class TestLiSSAOfAllExamples(InverseTests):
    inverse = LiSSA(damping=0.3, batch_size=None, repeats=1, depth=250)
    models = ("linear", "network")  # for speed


class TestLiSSA(InverseTests):
    inverse = LiSSA(damping=0.1, batch_size=4, repeats=2, depth=20, seed=3)
    models = ("linear", "network")  # for speed
    exact = False  # an estimate
    symmetric = False  # a product of different batches' matrices
    ordered = True  # batches are drawn by position


class TestNystrom(InverseTests):
    inverse = Nystrom(6, damping=0.1)
    exact = False  # of rank 6
    undamped = False  # a matrix of rank 6 is singular
    positional = ("rank", "curvature")


class TestNystromOfFullRank(InverseTests):
    inverse = Nystrom(12, damping=0.1)
    models = ("linear",)  # of 12 parameters
    positional = ("rank", "curvature")


class TestArnoldi(InverseTests):
    inverse = Arnoldi(6, damping=0.1)
    exact = False  # of rank 6
    undamped = False  # a matrix of rank 6 is singular
    positional = ("rank", "curvature")


class TestArnoldiOfFullRank(InverseTests):
    inverse = Arnoldi(12, damping=0.1)
    models = ("linear",)  # of 12 parameters
    positional = ("rank", "curvature")


class TestEKFAC(InverseTests):
    inverse = EKFAC(FISHER, damping=0.1)
    by_rows = True


class TestEKFACWithoutThePenalty(InverseTests):
    inverse = EKFAC(FISHER, damping=0.1, penalized=False)
    by_rows = True


class TestKFAC(InverseTests):
    inverse = KFAC(FISHER, damping=0.1)
    exact = False  # its factors are damped, which adds more than δ
    by_rows = True


class TestKFACDampedByEigenvalue(InverseTests):
    inverse = KFAC(FISHER, damping=0.1, damping_rule="eigenvalue")
    by_rows = True


class TestDiagonal(InverseTests):
    inverse = Diagonal(FISHER, damping=0.1)
    by_rows = True


class TestDiagonalOfDraws(InverseTests):
    inverse = Diagonal(Fisher(samples=2), damping=0.1)
    by_rows = True
    ordered = True  # targets are drawn by position


class TestDataInf(InverseTests):
    inverse = DataInf(damping=0.1)
    exact = False  # the mean of inverses, not the inverse of the mean
    by_rows = True


class TestIdentity(InverseTests):
    inverse = Identity()
    exact = False  # of the identity, not of its operator
    damped = False  # there is nothing to damp
    positional = ()


class TestStepMetric(InverseTests):
    inverse = StepMetric(metric_of("network"), damping=0.1)
    described = False
    by_rows = True
    positional = ("metric",)
    models = ("network",)


class TestInMetric(InverseTests):
    inverse = InMetric(Dense(damping=0.1), metric_of("network"))
    exact = False  # its damping is δP
    shifted = False
    described = False
    by_rows = True
    positional = ("inner", "metric")
    models = ("network",)

    def at(self, damping: float) -> Inverse:
        return replace(self.inverse, inner=replace(self.inverse.inner, damping=damping))  # type: ignore[attr-defined]


class TestEKFACInMetric(TestInMetric):
    inverse = InMetric(EKFAC(FISHER, damping=0.1), metric_of("network"))


def test_every_exported_inverse_has_a_class_here() -> None:
    exported = [getattr(upweight.inverse, name) for name in upweight.inverse.__all__]
    concrete = {kind for kind in exported if hasattr(kind, "fit") and not getattr(kind, "_is_protocol", False)}
    classes: list[Any] = [value for value in globals().values() if isinstance(value, type)]
    tested = {type(kind.inverse) for kind in classes if issubclass(kind, InverseTests) and kind is not InverseTests}
    assert concrete == tested
