"""Every exported example function keeps what all of them promise."""

from __future__ import annotations

from typing import Any

import upweight.gradients
from gradients.functions import CASES, Case, Reference
from gradients.interface import ExampleFunctionTests, case_of, reference_of
from upweight.gradients import AutogradFunction, ExampleFunction, FactoredFunction, LinearFunction
from upweight.gradients.linear import split_model


class TestAutogradFunction(ExampleFunctionTests):
    factored = False

    @classmethod
    def made(cls, case: Case, reference: Reference) -> ExampleFunction:
        return AutogradFunction(case.model, case.loss, reference.layout)


class TestFactoredFunction(ExampleFunctionTests):
    @classmethod
    def made(cls, case: Case, reference: Reference) -> ExampleFunction:
        return FactoredFunction(case.model, case.loss, reference.layout, reference.params, case.batch)


class TestLinearFunction(ExampleFunctionTests):
    cases = {name: case for name, case in CASES.items() if case_of(name).linear}  # noqa: RUF012
    linear = True

    @classmethod
    def made(cls, case: Case, reference: Reference) -> ExampleFunction:
        parts = split_model(case.model, reference.layout)
        assert parts is not None
        return LinearFunction(*parts, case.loss, reference.layout)


def test_every_exported_example_function_has_a_class_here() -> None:
    exported = [getattr(upweight.gradients, name) for name in upweight.gradients.__all__]
    concrete = {kind for kind in exported if hasattr(kind, "each") and not getattr(kind, "_is_protocol", False)}
    here: list[Any] = [value for name, value in globals().items() if name.startswith("Test")]
    made = {type(each.made(case_of("linear"), reference_of("linear"))) for each in here}
    assert concrete == made
