"""The leverage correction against exact refits: exact for ridge, nearer for other losses, a Newton step of each."""

import torch

from problems import close, convex
from removals import augmented, exact, refit


def test_ridge_leave_one_out_is_exact_with_the_leverage():
    problem = convex("ridge")
    x, inverse = augmented(problem), problem.hessian().inverse()
    residual = problem.model(problem.x).detach()[:, 0] - problem.y
    h = torch.einsum("np,pq,nq->n", x, inverse, x) / problem.n
    influence = exact(problem)
    parameters = influence.parameters(range(problem.n))
    close(-parameters / problem.n, residual[:, None] * x @ inverse / problem.n)
    for i in range(problem.n):
        change, _ = refit(problem, i, False)
        close(change, residual[i] * inverse @ x[i] / (problem.n * (1 - h[i])))
        close(change, -parameters[i] / problem.n / (1 - h[i]))
        left_out = x[i] @ (problem.theta + change) - problem.y[i]
        close(left_out, residual[i] / (1 - h[i]))
    corrected = influence.attribute(problem.queries, leverage_corrected=True).scores
    close(corrected, torch.stack([refit(problem, i, False)[1] for i in range(problem.n)], 1))
    close(influence.self_influence(leverage_corrected=True).scores, residual**2 * (1 / (1 - h) ** 2 - 1) / 2)


def test_the_leverage_correction_improves_glms():
    problem = convex("logistic", n=60)
    influence = exact(problem)
    actual = torch.stack([refit(problem, i, False)[1] for i in range(problem.n)], 1)
    plain = -influence.parameters(range(problem.n)) / problem.n
    first, corrected = (influence.attribute(problem.queries, leverage_corrected=flag).scores for flag in (False, True))
    close(first, problem.query_gradients() @ plain.T)
    assert (corrected - actual).norm() < 0.5 * (first - actual).norm()
    # h_i = w_i x_iᵀH⁻¹x_i/n in closed form
    margin = problem.model(problem.x).detach()[:, 0]
    weight = torch.sigmoid(margin) * torch.sigmoid(-margin)
    h = weight * torch.einsum("np,pq,nq->n", problem.x, problem.hessian().inverse(), problem.x) / problem.n
    linearised = first / (1 - h)
    assert (corrected - actual).norm() < 0.8 * (linearised - actual).norm()
    before = problem.query_losses(problem.theta)
    steps = plain / (1 - h[:, None])
    close(corrected, torch.stack([problem.query_losses(problem.theta + step) - before for step in steps], 1))


def test_the_leverage_correction_of_several_outputs_is_one_newton_step_of_each():
    problem = convex("softmax")
    corrected = exact(problem).attribute(problem.queries, leverage_corrected=True).scores
    hessians, gradients = problem.example_hessians(), problem.gradients()
    for i in (0, 7):
        step = torch.linalg.solve(problem.hessian() - hessians[i] / problem.n, gradients[i]) / problem.n
        close(corrected[:, i], problem.query_losses(problem.theta + step) - problem.query_losses(problem.theta))
