"""Networks of images: convolutional families and what stands between their convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import CLASSES, Case, N, classified


def pictures(channels: int = 1, size: int = 8) -> Tensor:
    return torch.randn(N, channels, size, size)


def norm(channels: int) -> nn.BatchNorm2d:
    """With running statistics as training leaves them."""
    made = nn.BatchNorm2d(channels)
    assert made.running_mean is not None
    assert made.running_var is not None
    made.running_mean.copy_(torch.randn(channels) / 3)
    made.running_var.copy_(torch.rand(channels) + 0.5)
    return made


class Residual(nn.Module):
    def __init__(self, inside: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.inside, self.shortcut = inside, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inside(x) + self.shortcut(x))


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), nn.Tanh(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, CLASSES)),
    )


def resnet() -> nn.Module:
    def block(ins: int, outs: int, stride: int) -> nn.Module:
        inside = nn.Sequential(
            *(nn.Conv2d(ins, outs, 3, stride, 1, bias=False), norm(outs), nn.ReLU(inplace=True)),
            *(nn.Conv2d(outs, outs, 3, 1, 1, bias=False), norm(outs)),
        )
        changed = stride > 1 or ins != outs
        shortcut = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), norm(outs)) if changed else None
        return Residual(inside, shortcut)

    stem = [nn.Conv2d(1, 3, 3, 1, 1, bias=False), norm(3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, block(3, 3, 1), block(3, 4, 2), *head(4))


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for ins, outs in ((1, 3), (3, 3), (3, 5)):
        layers += [nn.Conv2d(ins, outs, 3, padding=1), norm(outs), nn.ReLU()]
        if outs != ins:
            layers.append(nn.MaxPool2d(2))
    classifier = [nn.Linear(20, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), *classifier)


class Squeeze(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))


def mobilenet(*, squeezed: bool) -> nn.Module:
    inside = nn.Sequential(
        *(nn.Conv2d(3, 6, 1, bias=False), norm(6), nn.Hardswish() if squeezed else nn.ReLU6()),
        *(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), norm(6), nn.SiLU()),
        *([Squeeze(6)] if squeezed else []),
        *(nn.Conv2d(6, 3, 1, bias=False), norm(3)),
    )
    return nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), norm(3), Residual(inside), *head(3))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(norm(3 + 2 * k), nn.ReLU(), nn.Conv2d(3 + 2 * k, 2, 3, padding=1, bias=False))
            for k in range(3)
        )
        self.transition = nn.Sequential(norm(9), nn.ReLU(), nn.Conv2d(9, 4, 1), nn.AvgPool2d(2), *head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.transition(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.GroupNorm(1, 3), nn.ReLU())
        self.low = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU())
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.out = nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        return self.out(torch.cat([self.up(self.low(F.max_pool2d(high, 2))), high], 1))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(1, 2, 1),
                nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, (1, 3), padding=(0, 1))),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(1, 2, 1)),
            ]
        )
        self.head = nn.Sequential(*head(7))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([branch(x).relu() for branch in self.branches], 1))


class Shuffle(nn.Module):
    """Grouped convolutions whose channels are dealt out between them; half of them pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.head = nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        near, far = self.stem(x).relu().chunk(2, 1)
        x = torch.cat([near, self.inner(far).relu()], 1)
        b, c, h, w = x.shape
        return self.head(x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w))


class ConvNeXt(nn.Module):
    """Channels last inside: a norm over channels, two linear layers, a scale of the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(1, 4, 2, 2), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm, self.up, self.down = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)
        self.scale, self.head = nn.Parameter(torch.full((4,), 0.5)), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.down(F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))) * self.scale
        return self.head((x + inner.permute(0, 3, 1, 2)).mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution whose kernels are standardised before use."""

    def forward(self, input: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(input, (self.weight - mean) / (std + 1e-5), self.bias)


class Experts(nn.Module):
    """Every image has a kernel of its own, mixed of several: the batch becomes groups of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.route = nn.Parameter(torch.randn(3, 2, 1, 3, 3) / 3), nn.Linear(1, 3)
        self.head = nn.Sequential(*head(2))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.route(x.mean((2, 3))).softmax(-1)
        kernels = torch.einsum("be,eoihw->boihw", weights, self.kernels).flatten(0, 1)
        out = F.conv2d(x.reshape(1, len(x), *x.shape[2:]), kernels, groups=len(x), padding=1)
        return self.head(out.reshape(len(x), 2, *x.shape[2:]).relu())


def places() -> Tensor:
    return torch.randint(0, CLASSES, (N, 8, 8))


def plain(*layers: nn.Module, channels: int = 1) -> Case:
    return classified(nn.Sequential(*layers), pictures(channels))


MODELS: dict[str, Callable[[], Case]] = {
    "LeNet": lambda: classified(lenet(), pictures()),
    "ResNet in eval mode": lambda: classified(resnet(), pictures()),
    "VGG with batch norm and dropout": lambda: classified(vgg(), pictures()),
    "MobileNet": lambda: classified(mobilenet(squeezed=False), pictures()),
    "MobileNet with squeeze and excitation": lambda: classified(
        mobilenet(squeezed=True), pictures(), differences=True, precision=1e-6
    ),
    "DenseNet": lambda: classified(DenseNet(), pictures()),
    "U-Net, classes of pixels": lambda: classified(UNet(), pictures(), labels=places(), image=True),
    "U-Net, some pixels ignored": lambda: classified(
        UNet(), pictures(), labels=torch.where(torch.rand(N, 8, 8) < 0.3, -100, places()), image=True
    ),
    "Inception": lambda: classified(Inception(), pictures()),
    "ShuffleNet": lambda: classified(Shuffle(), pictures()),
    "ConvNeXt": lambda: classified(ConvNeXt(), pictures()),
    "standardised weights with group norm": lambda: plain(
        Standardised(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), *head(4)
    ),
    "a kernel for each image": lambda: classified(Experts(), pictures()),
    "local response norm": lambda: plain(nn.Conv2d(1, 5, 3), nn.LocalResponseNorm(3), nn.ReLU(), *head(5)),
    "instance norm": lambda: plain(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh(), nn.Flatten(), nn.Linear(144, CLASSES)
    ),
    "instance norm with running statistics": lambda: plain(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.Tanh(), *head(4)
    ),
    "channels last in memory": lambda: classified(
        lenet().to(memory_format=torch.channels_last), pictures().to(memory_format=torch.channels_last)
    ),
    "mixed and random pools": lambda: plain(
        *(nn.Conv2d(1, 4, 3, padding_mode="reflect", padding=1), nn.LPPool2d(2, 2), nn.ELU()),
        *(nn.ZeroPad2d((1, 0, 0, 1)), nn.Conv2d(4, 3, 2), nn.AdaptiveMaxPool2d((2, 1)), nn.Flatten()),
        nn.Linear(6, CLASSES),
    ),
    "batch norm without its own statistics": lambda: Case(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU(), *head(3)),
        *(lambda case: (case.data, case.loss, case.plain))(plain(nn.Flatten(), nn.Linear(64, CLASSES))),
        refused="depends on the other examples",
    ),
}
