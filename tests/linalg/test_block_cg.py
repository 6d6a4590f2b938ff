"""Block conjugate gradients against dense solves and SciPy's."""

from __future__ import annotations

import pytest
import torch
from scipy.sparse.linalg import cg

from problems import DOUBLE, close
from symmetric import SPECTRA, rows, times, with_spectrum
from upweight.linalg.block_cg import block_cg
from upweight.linalg.errors import NotPositiveError, PreconditionerNotPositiveError


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_it_solves_whatever_the_spectrum_and_the_number_of_vectors(spectrum: str, count: int) -> None:
    matrix = with_spectrum(SPECTRA[spectrum])
    vectors = rows(count, len(matrix))
    tolerance = 1e-7 if spectrum == "wide" else 1e-9
    found = block_cg(times(matrix), vectors, tolerance, 500)
    close(found.residuals, (vectors - found.x @ matrix).norm(dim=1) / vectors.norm(dim=1), atol=1e-14)
    assert float(found.residuals.max()) <= 1.01 * tolerance
    assert found.smallest >= min(SPECTRA[spectrum]) * (1 - 1e-6)
    condition = max(SPECTRA[spectrum]) / min(SPECTRA[spectrum])
    truth = torch.linalg.solve(matrix, vectors.T).T
    assert float((found.x - truth).norm() / truth.norm()) <= tolerance * condition


def test_one_vector_takes_the_steps_of_the_textbook() -> None:
    matrix, vectors = with_spectrum(SPECTRA["decaying"]), rows(1, 20)
    found = block_cg(times(matrix), vectors, 1e-6, 6)
    theirs, _ = cg(matrix.numpy(), vectors[0].numpy(), rtol=1e-15, maxiter=6)
    close(found.x[0], theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_it_ends_after_as_many_steps_as_there_are_eigenvalues(distinct: int) -> None:
    matrix = with_spectrum([float(1 + number % distinct) for number in range(20)])
    assert len(block_cg(times(matrix), rows(3, 20), 1e-10, 100).history) - 1 <= distinct


def test_many_vectors_help_each_other() -> None:
    matrix = with_spectrum(SPECTRA["wide"])
    alone, many = (len(block_cg(times(matrix), rows(count, 30), 1e-8, 500).history) for count in (1, 15))
    assert many < alone / 4


def test_the_order_of_vectors_doesnt_matter_and_equal_ones_have_equal_solutions() -> None:
    matrix, vectors = with_spectrum(SPECTRA["decaying"]), rows(5, 20)
    vectors[3] = vectors[1]
    order = torch.tensor([4, 2, 0, 3, 1])
    one, other = (block_cg(times(matrix), each, 1e-11, 500).x for each in (vectors, vectors[order]))
    close(one[order], other, rtol=1e-6, atol=1e-6)
    close(one[3], one[1], rtol=1e-8, atol=1e-8)


def test_zero_vectors_and_vectors_of_any_size_stand_side_by_side() -> None:
    matrix, vectors = with_spectrum(SPECTRA["even"]), rows(4, 12)
    vectors[2] = 0
    scaled = vectors * torch.tensor([1e-30, 1.0, 1.0, 1e20], dtype=DOUBLE)[:, None]
    found = block_cg(times(matrix), scaled, 1e-10, 100)
    assert not found.x[2].any()
    for x, v in zip(found.x, scaled, strict=True):
        close(x / v.norm().clamp_min(1e-300), torch.linalg.solve(matrix, v / v.norm().clamp_min(1e-300)), atol=1e-8)
    nothing = block_cg(times(matrix), torch.zeros(2, 12, dtype=DOUBLE), 1e-10, 100)
    assert (nothing.history, nothing.smallest) == ((), float("inf"))


def test_the_exact_inverse_as_preconditioner_needs_one_step() -> None:
    matrix = with_spectrum(SPECTRA["wide"])
    found = block_cg(times(matrix), rows(3, 30), 1e-7, 100, times(torch.linalg.inv(matrix)))
    assert len(found.history) - 1 <= 2
    assert float(found.residuals.max()) <= 1.01e-7


@pytest.mark.parametrize("seed", range(5))
def test_negative_curvature_is_met_with_its_figures(seed: int) -> None:
    matrix = with_spectrum([*SPECTRA["even"], -0.5], seed)
    with pytest.raises(NotPositiveError) as met:
        block_cg(times(matrix), rows(2, 13, seed), 1e-10, 100)
    assert -0.5 - 1e-12 <= met.value.quotient <= 0
    assert met.value.iterations >= 1
    assert met.value.largest <= 2 + 1e-12


def test_what_isnt_finite_or_no_preconditioner_is_said() -> None:
    with pytest.raises(NotPositiveError, match="nan"):
        block_cg(lambda x: x * torch.nan, rows(1, 4), 1e-10, 100)
    with pytest.raises(PreconditionerNotPositiveError):
        block_cg(times(torch.eye(4, dtype=DOUBLE)), rows(2, 4), 1e-10, 100, lambda x: -x)


def test_it_stops_at_its_limit_and_is_watched() -> None:
    seen: list[tuple[int, float]] = []

    def watch(steps, history, target):
        for step in steps:
            seen.append((step, history[-1]))
            yield step

    found = block_cg(times(with_spectrum(SPECTRA["wide"])), rows(1, 30), 1e-12, 3, watch=watch)
    assert [step for step, _ in seen[:3]] == [0, 1, 2]
    assert seen[0][1] == 1
    assert len(found.history) == 4
    assert float(found.residuals.max()) > 1e-12
