"""Every exported curvature and operator keeps what all of them promise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import upweight.curvature
from curvature.interface import CurvatureTests, OperatorTests, SummedTests
from problems import DOUBLE, Problem, mlp
from solvers import spd
from upweight.curvature import (
    GGN,
    Difference,
    EmpiricalFisher,
    Fisher,
    Hessian,
    Matrix,
    ObjectiveCurvature,
    Operator,
    RowsOperator,
)
from upweight.curvature.eigenbasis import EigenOperator
from upweight.inverse import EKFAC


class TestHessian(SummedTests):
    curvature, kind = Hessian(), ObjectiveCurvature
    positive = False  # of networks

    def definition(self, problem: Problem, counts: Tensor) -> Tensor:
        return problem.hessian(counts) - problem.l2 * torch.eye(len(problem.theta), dtype=DOUBLE)


class TestGGN(SummedTests):
    curvature, kind = GGN(), ObjectiveCurvature

    def definition(self, problem: Problem, counts: Tensor) -> Tensor:
        return problem.ggn_of(counts)


class TestEmpiricalFisher(CurvatureTests):
    curvature, kind = EmpiricalFisher(), RowsOperator

    def definition(self, problem: Problem, counts: Tensor) -> Tensor:
        return torch.einsum("n,np,nq->pq", counts, problem.gradients(), problem.gradients())


class TestExactFisher(CurvatureTests):
    curvature, kind = Fisher(samples=None), RowsOperator

    def definition(self, problem: Problem, counts: Tensor) -> Tensor:
        return problem.ggn_of(counts)


class TestFisher(CurvatureTests):
    curvature, kind = Fisher(samples=2, seed=3), RowsOperator
    ordered = True  # targets are drawn by position

    def definition(self, problem: Problem, counts: Tensor) -> None:
        return None


class TestMatrix(OperatorTests):
    kind = Matrix

    @classmethod
    def made(cls) -> Operator:
        return Matrix(spd())


class TestDifference(OperatorTests):
    kind = Difference

    @classmethod
    def made(cls) -> Operator:
        operator = Hessian().of(mlp(n=12).objective())
        return Difference(operator, operator.share([3, 1]))


class TestEigenOperator(OperatorTests):
    kind = EigenOperator

    @classmethod
    def made(cls) -> Operator:
        return EKFAC(damping=0.1).fit(mlp(n=12).objective()).operator


def exported(*methods: str) -> set[Any]:
    kinds = [getattr(upweight.curvature, name) for name in upweight.curvature.__all__]
    classes = [kind for kind in kinds if isinstance(kind, type) and not getattr(kind, "_is_protocol", False)]
    return {kind for kind in classes if all(hasattr(kind, method) for method in methods)}


def test_every_exported_curvature_and_operator_has_a_class_here() -> None:
    here: list[Any] = [value for name, value in globals().items() if name.startswith("Test")]
    assert exported("of") == {type(each.curvature) for each in here if issubclass(each, CurvatureTests)}
    assert exported("apply", "dense") <= {each.kind for each in here}
