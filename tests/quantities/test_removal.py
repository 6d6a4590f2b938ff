"""Leave-one-out and groups: predictions against exact refits, in both conventions."""

import numpy as np
import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex, mlp, unflatten
from upweight.errors import InputError

CONVENTIONS = pytest.mark.parametrize("renormalize", [False, True], ids=["weights stay 1/n", "mean of the rest"])
GROUP = [2, 3, 11, 17]


def exact(problem, **options):
    return uw.Influence(problem.objective(**options), uw.inverse.Dense())


def refit(problem, members, renormalize):
    """Change of θ̂ and of the queries' losses when the members are left out, by retraining to the optimum."""
    theta = problem.optimum(problem.counts_without(members, renormalize=renormalize))
    return theta - problem.theta, problem.query_losses(theta) - problem.query_losses(problem.theta)


def augmented(problem):
    return torch.cat([problem.x, torch.ones(problem.n, 1, dtype=DOUBLE)], 1)


@CONVENTIONS
@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax"])
def test_removal_predicts_leave_one_out_in_its_own_convention_and_not_in_the_other(name, renormalize):
    problem = convex(name, n=60)
    predicted = exact(problem).attribute(problem.queries, renormalize=renormalize).scores

    left_out = range(0, problem.n, 4)

    def error(convention):
        actual = torch.stack([refit(problem, i, convention)[1] for i in left_out], 1)
        return float((predicted[:, left_out] - actual).norm() / actual.norm())

    assert error(renormalize) < 0.25
    assert error(renormalize) < error(not renormalize)


@CONVENTIONS
@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax"])
def test_removal_is_the_derivative_of_leaving_out(name, renormalize):
    """Downweighting the example by a share t of its leaving, the change of the loss per t as t → 0 is removal."""
    problem = convex(name)
    predicted = exact(problem).attribute(problem.queries, renormalize=renormalize).scores
    base, n, t = torch.full((problem.n,), 1 / problem.n, dtype=DOUBLE), problem.n, 1e-5
    for i in (0, 5, 13):
        direction = problem.counts_without(i, renormalize=renormalize) - base
        if renormalize:  # 1/(n−1) − 1/n on the others is first order in leaving out
            gradient = problem.gradients()
            pull = -(gradient[i] + problem.l2 * problem.theta) / (n - 1)
            close(direction @ gradient, pull)  # the same pull, since Σ∇(ℓ + reg) = 0
        losses = [problem.query_losses(problem.optimum(base + sign * t * direction)) for sign in (1, -1)]
        slope = (losses[0] - losses[1]) / (2 * t)
        close(predicted[:, i], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_gradients_sum_to_minus_n_lambda_theta_and_influences_to_zero(name, l2):
    problem = convex(name, n=60, l2=l2)
    objective = problem.objective()
    total = torch.cat([gradients for _, gradients in objective.example_gradients()]).sum(0)
    close(total, -problem.n * l2 * problem.theta)
    influence = exact(problem)
    zeros = torch.zeros(5, dtype=DOUBLE)
    close(influence.attribute(problem.queries, renormalize=True).scores.sum(1), zeros, atol=1e-12)
    plain = influence.attribute(problem.queries).scores.sum(1)
    expected = -l2 * problem.query_gradients() @ torch.linalg.solve(problem.hessian(), problem.theta)
    close(plain, expected)
    assert (plain.abs().max() < 1e-12) == (l2 == 0)


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


def test_ridge_groups_are_exact_by_their_closed_form_and_by_one_newton_step():
    problem = convex("ridge")
    x, inverse = augmented(problem), problem.hessian().inverse()
    xu, residual = x[GROUP], (problem.model(problem.x).detach()[:, 0] - problem.y)[GROUP]
    p = xu @ inverse @ xu.T / problem.n
    change = inverse @ xu.T @ torch.linalg.solve(torch.eye(len(GROUP), dtype=DOUBLE) - p, residual) / problem.n
    close(refit(problem, GROUP, False)[0], change)
    newton = exact(problem).group(GROUP, problem.queries, order="newton").scores
    close(newton[:, 0], problem.query_losses(problem.theta + change) - problem.query_losses(problem.theta))


@CONVENTIONS
def test_one_newton_step_is_exact_for_quadratics(renormalize):
    problem = convex("ridge")
    _, losses = refit(problem, GROUP, renormalize)
    newton = exact(problem).group(GROUP, problem.queries, order="newton", renormalize=renormalize)
    close(newton.scores[:, 0], losses)


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


def test_logistic_influence_has_the_closed_form_of_the_paper():
    problem = convex("logistic")
    sign, query_sign = (2 * y.double() - 1 for y in (problem.y, problem.query_y))
    theta, inverse = problem.theta, problem.hessian().inverse()
    left = query_sign * torch.sigmoid(-query_sign * (problem.query_x @ theta))
    right = sign * torch.sigmoid(-sign * (problem.x @ theta))
    expected = -left[:, None] * right * (problem.query_x @ inverse @ problem.x.T)
    scores = exact(problem).attribute(problem.queries, quantity="upweight").scores
    close(scores, expected)


def test_upweight_is_minus_n_times_removal(trained):
    influence = exact(trained)
    up = influence.attribute(trained.queries, quantity="upweight").scores
    close(influence.attribute(trained.queries).scores, -up / trained.n)
    expected = -trained.query_gradients() @ trained.hessian().inverse() @ trained.gradients().T
    close(up, expected)


def test_parameters_are_the_finite_difference_of_upweighting(trained):
    influence, step = exact(trained), 1e-4
    rows = influence.parameters([1, 4])
    for row, i in zip(rows, (1, 4), strict=True):
        counts = torch.full((trained.n,), 1 / trained.n, dtype=DOUBLE)
        thetas = []
        for share in (step, -step, 2 * step, -2 * step):
            moved = counts.clone()
            moved[i] += share
            thetas.append(trained.optimum(moved))
        # Fourth order, so that the truncation is below 1e-8
        slope = (8 * (thetas[0] - thetas[1]) - (thetas[2] - thetas[3])) / (12 * step)
        close(row, slope, rtol=1e-8, atol=1e-8)


def test_self_influence_is_the_diagonal_of_a_symmetric_positive_kernel(trained):
    influence = exact(trained)
    kernel = influence.attribute((trained.x, trained.y)).scores
    close(kernel, kernel.T)
    assert torch.linalg.eigvalsh(kernel)[0] > -1e-12
    own = influence.self_influence()
    close(own.scores, kernel.diagonal())
    assert (own.scores >= 0).all()
    close(influence.self_influence(train=[3, 1]).scores, kernel.diagonal()[[3, 1]])


@CONVENTIONS
@pytest.mark.parametrize("weighted", [False, True])
def test_self_influence_is_the_removal_of_an_example_seen_by_itself(weighted, renormalize):
    problem = convex("softmax")
    weights = torch.linspace(0, 3, problem.n, dtype=DOUBLE) if weighted else None
    objective = problem.objective(weights=weights)
    influence = uw.Influence(objective, uw.inverse.Dense())
    whole = influence.attribute((problem.x, problem.y), renormalize=renormalize).scores
    close(influence.self_influence(renormalize=renormalize).scores, whole.diagonal())


def test_weights_are_what_repeating_examples_does():
    """Weight 2 on an example is that example twice: removal of both is the removal of the weighted one."""
    problem = convex("logistic")
    weights = torch.ones(problem.n, dtype=DOUBLE)
    weights[4] = 2
    repeated = (torch.cat([problem.x, problem.x[4:5]]), torch.cat([problem.y, problem.y[4:5]]))
    n = problem.n
    weighted = exact(problem, weights=weights, l2=0.05 * (n + 1) / n)
    one = weighted.attribute(problem.queries).scores
    both = exact(problem, data=repeated, l2=0.05).group([4, n], problem.queries).scores[:, 0]
    close(one[:, 4], both)


@CONVENTIONS
def test_the_first_order_of_a_group_is_the_sum_of_its_members(trained, renormalize):
    influence = exact(trained)
    single = influence.attribute(trained.queries, renormalize=renormalize).scores
    groups = influence.group([GROUP, [5], range(9)], trained.queries, renormalize=renormalize)
    share = (trained.n - 1) / (trained.n - torch.tensor([4.0, 1, 9], dtype=DOUBLE)) if renormalize else 1
    sums = torch.stack([single[:, GROUP].sum(1), single[:, 5], single[:, :9].sum(1)], 1)
    close(groups.scores, sums * share)
    assert groups.ids.tolist() == [0, 1, 2]


@CONVENTIONS
def test_the_second_order_of_a_group_has_its_closed_form(trained, renormalize):
    n, u = trained.n, len(GROUP)
    identity = torch.eye(len(trained.theta), dtype=DOUBLE)
    inverse, gradients = trained.hessian().inverse(), trained.gradients()[GROUP]
    part = trained.example_hessians()[GROUP].mean(0)
    if renormalize:
        q = u / (n - u)
        first = q * inverse @ (gradients.mean(0) + trained.l2 * trained.theta)
        step = first - q * (identity - inverse @ (part + trained.l2 * identity)) @ first
    else:
        first = inverse @ gradients.sum(0) / n
        step = first + inverse @ (u / n * part) @ first
    got = exact(trained).group(GROUP, trained.queries, order="second", renormalize=renormalize).scores
    close(got[:, 0], trained.query_gradients() @ step)


@CONVENTIONS
def test_the_newton_step_of_a_group_is_solved_with_the_curvature_of_the_rest(trained, renormalize):
    n = trained.n
    counts = trained.counts_without(GROUP, renormalize=renormalize)
    pull = trained.gradients()[GROUP].sum(0)
    if renormalize:
        pull = (pull + len(GROUP) * trained.l2 * trained.theta) / (n - len(GROUP))
    else:
        pull = pull / n
    step = torch.linalg.solve(trained.hessian(counts), pull)
    got = exact(trained).group(GROUP, trained.queries, order="newton", renormalize=renormalize).scores
    moved = trained.query_losses(trained.theta + step) - trained.query_losses(trained.theta)
    linear = exact(trained).objective.is_linear
    close(got[:, 0], moved if linear else trained.query_gradients() @ step)


@CONVENTIONS
@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_higher_orders_are_nearer_to_retraining_than_the_first(name, renormalize):
    problem = convex(name, n=60)
    change, losses = refit(problem, range(0, 60, 5), renormalize)
    influence, members = exact(problem), range(0, 60, 5)

    def errors(measurement, actual):
        found = [
            influence.group(members, problem.queries, order=order, renormalize=renormalize, measurement=measurement)
            for order in ("first", "second", "newton")
        ]
        return [float((each.scores[:, 0] - actual).norm()) for each in found]

    there = torch.func.functional_call(problem.model, unflatten(problem.model, problem.theta + change), problem.query_x)
    actual = (there - problem.model(problem.query_x)).detach()[:, 0]
    of_outputs = errors(lambda model, batch: model(batch[0])[:, 0], actual)  # linear, so that the steps are judged
    assert of_outputs[1] < 0.95 * of_outputs[0]
    assert of_outputs[2] < 0.95 * of_outputs[0]
    of_losses = errors(None, losses)
    assert of_losses[2] < 0.8 * of_losses[0]


def test_groups_are_rows_of_arrays_and_tensors_and_lists_of_either():
    problem = convex("ridge")
    influence = exact(problem)
    rows = [[0, 1], [2, 5]]
    expected = influence.group(rows, problem.queries).scores
    for form in (np.array(rows), torch.tensor(rows), [torch.tensor(row) for row in rows], tuple(map(tuple, rows))):
        close(influence.group(form, problem.queries).scores, expected)
    for form in ([0, 1], np.array([0, 1]), torch.tensor([0, 1]), range(2), [torch.tensor(0), torch.tensor(1)]):
        close(influence.group(form, problem.queries).scores, expected[:, :1])


def test_losses_times_c_with_l2_times_c_are_removal_times_c():
    problem, c = convex("ridge"), 3.0
    double = problem.objective(loss=uw.losses.SquaredError(0.5 * c), l2=c * problem.l2)
    one, scaled = (
        uw.Influence(objective, uw.inverse.Dense()).attribute(problem.queries).scores
        for objective in (problem.objective(), double)
    )
    close(scaled, c * one)


def test_damping_is_what_is_added_to_the_curvature(trained):
    identity = torch.eye(len(trained.theta), dtype=DOUBLE)
    for damping in (0.0, 0.01, 1.0):
        influence = uw.Influence(trained.objective(), uw.inverse.Dense(damping=damping))
        inverse = (trained.hessian() + damping * identity).inverse()
        expected = trained.query_gradients() @ inverse @ trained.gradients().T / trained.n
        close(influence.attribute(trained.queries).scores, expected)
        assert influence.attribute(trained.queries).damping == damping


def test_two_copies_of_an_example_have_equal_influence():
    problem = convex("softmax")
    twice = problem.at_optimum(x=torch.cat([problem.x, problem.x[3:4]]), y=torch.cat([problem.y, problem.y[3:4]]))
    scores = exact(twice).attribute(problem.queries).scores
    close(scores[:, 3], scores[:, -1])


def test_doubling_the_data_keeps_theta_and_curvature_and_halves_removal(convex):
    double = convex.objective(data=(torch.cat([convex.x] * 2), torch.cat([convex.y] * 2)))
    close(double.gradient(), torch.zeros(double.p))
    close(uw.curvature.Hessian().of(double).dense(), convex.hessian())
    scores = uw.Influence(double, uw.inverse.Dense()).attribute(convex.queries).scores
    close(scores[:, : convex.n], exact(convex).attribute(convex.queries).scores / 2)
    close(scores[:, convex.n :], scores[:, : convex.n])


@pytest.mark.parametrize("kind", ["replacement", "relabel"])
def test_replacements_are_differences_of_gradients(kind):
    problem = convex("softmax")
    influence, where = exact(problem), [4, 0, 9]
    labels = (problem.y[where] + 1) % 3
    if kind == "relabel":
        scores = influence.relabel(where, labels, problem.queries)
        x, y = problem.x[where], labels
    else:
        x, y = problem.x[where] + 0.3, labels
        scores = influence.replacement(where, (x, y), problem.queries)
    there = torch.func.jacrev(lambda theta: problem.losses(theta, x, y))(problem.theta)
    difference = problem.gradients()[where] - there
    expected = problem.query_gradients() @ problem.hessian().inverse() @ difference.T / problem.n
    close(scores.scores, expected)
    assert scores.ids.tolist() == where


def test_orders_beyond_the_first_need_the_objectives_own_curvature():
    problem = convex("ridge")
    solver = uw.inverse.Dense().fit(uw.curvature.Matrix(problem.hessian()))
    influence = uw.Influence(problem.objective(), solver)
    close(influence.attribute(problem.queries).scores, exact(problem).attribute(problem.queries).scores)
    with pytest.raises(InputError, match="need an inverse fitted to the objective"):
        influence.group(GROUP, problem.queries, order="second")


def test_the_default_inverse_says_what_it_chose():
    linear = uw.Influence(convex("softmax").objective())
    assert "linear in θ" in linear.choice
    close(linear.attribute(convex("softmax").queries).damping, 0.0)
    network = uw.Influence(mlp().objective())
    assert "GGN" in network.choice
    assert "GGN" in network.attribute(mlp().queries).report.solver
