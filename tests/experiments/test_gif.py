"""The networks and the backdoor of the experiments on generalised influence."""

import pytest
import torch
from experiments.gif import backdoor, comparison, networks, problems, solvers
from torch import nn


def size(model: nn.Module) -> int:
    return sum(values.numel() for values in model.parameters())


def test_the_networks_are_the_published_ones_at_full_width() -> None:
    assert size(networks.vgg11(64, 3)) == 9_231_114
    assert size(networks.resnet18(64, 3)) == 11_173_962
    assert size(networks.tiny_net()) == 397_672
    assert abs(size(networks.tiny_net()) - 398_090) < 0.002 * 398_090


@pytest.mark.parametrize("make", [networks.tiny_net, lambda: networks.resnet18(4), lambda: networks.vgg11(4)])
def test_they_take_their_images(make) -> None:
    model = make().eval()
    shape = (2, 3, 32, 32) if isinstance(model[1], nn.BatchNorm2d) and model[0].in_channels == 3 else (2, 1, 28, 28)
    assert model(torch.rand(shape)).shape == (2, 10)


def test_the_stamp_is_a_checkerboard_of_intensity_sixteen() -> None:
    images = torch.zeros(1, 1, 28, 28)
    images[0, 0, 0, 1] = 1.0
    marked = backdoor.stamped(images)
    assert float((marked * 255).max()) == 255
    assert torch.equal(marked[0, 0, 1::2, ::2], torch.full((14, 14), 16 / 255))
    assert not marked[0, 0, ::2, ::2].any()


def test_networks_are_trained_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(problems, "MADE", tmp_path)
    trainings = []

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))

    def train(model: nn.Module) -> None:
        trainings.append(model)
        problems.descend(model, (torch.rand(300, 1, 2, 2), torch.arange(300) % 2), 1, 0.1, 0)

    first, seconds = problems.kept("some", make, train, 0)
    again, same = problems.kept("some", make, train, 0)
    assert len(trainings) == 1
    assert same == seconds
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_difference_of_methods_has_an_interval() -> None:
    runs = []
    for gain in (0.01, 0.03, 0.02):
        pair = {"judged": (0.9, 0.1)}
        run = {f"FIF {ratio}": pair for ratio in ("5 %", "10 %", "30 %", "50 %")}
        runs.append(run | {name.replace("FIF", "GIF"): {"judged": (0.9 + gain, 0.1)} for name in run})
    assert comparison.difference(runs).startswith("+2.0 [-0.5, +4.5] points at 5 %")


def test_products_are_compared_at_the_same_residual() -> None:
    rows = solvers.compared(
        {solvers.OURS: [1.0, 0.5, 0.04, 0.001], solvers.NEAR: [1.0, 0.9, 0.5, 0.2, 0.05], solvers.DOUBLED: [1.0, 0.7]}
    )
    assert rows == [[0.1, 4, 8, None], [0.03, 6, None, None], [0.05, 4, 8, None]]
