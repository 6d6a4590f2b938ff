"""Networks of images by patches, and those that make, cut or warp images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import CLASSES, Case, N, classified, fitted
from zoo.vision import head, pictures

SIDE, PATCH, WIDTH = 8, 4, 8


def by_convolution(x: Tensor, embed: nn.Module) -> Tensor:
    return embed(x).flatten(2).transpose(1, 2)


def by_unfolding(x: Tensor, embed: nn.Module) -> Tensor:
    return embed(F.unfold(x, PATCH, stride=PATCH).transpose(1, 2))


def by_reshaping(x: Tensor, embed: nn.Module) -> Tensor:
    b, k = len(x), SIDE // PATCH
    return embed(x.reshape(b, 1, k, PATCH, k, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(b, k * k, -1))


class VisionTransformer(nn.Module):
    def __init__(self, patches: Callable[[Tensor, nn.Module], Tensor], embed: nn.Module):
        super().__init__()
        self.patches, self.embed = patches, embed
        self.token, self.places = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 5, WIDTH))
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 12, 0.1, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.patches(x, self.embed)], 1) + self.places
        return self.head(self.encoder(x)[:, 0])


class ShiftedWindows(nn.Module):
    """Swin: attention within windows, which a roll shifts, with a table of relative positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(1, 4, 2, 2), nn.LayerNorm(4)
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)
        self.table = nn.Parameter(torch.randn(9, 2))
        grid = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        apart = grid[:, :, None] - grid[:, None] + 1
        self.register_buffer("relative", apart[0] * 3 + apart[1])
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        x = x + self.windows(self.norm(x))
        shifted = torch.roll(self.windows(torch.roll(self.norm(x), (-1, -1), (1, 2))), (1, 1), (1, 2))
        return self.head((x + shifted).mean((1, 2)))

    def windows(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        cut = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(cut).reshape(len(cut), 4, 3, 2, 2).permute(2, 0, 3, 1, 4)
        bias = self.table[self.relative.view(-1)].view(4, 4, 2).permute(2, 0, 1)
        mixed = (((q @ k.mT) / 2**0.5 + bias).softmax(-1) @ v).transpose(1, 2).reshape(len(cut), 4, c)
        return self.out(mixed).view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


class Mixer(nn.Module):
    """Linear layers along the patches and along the channels in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, 6, PATCH, PATCH), nn.Linear(6, CLASSES)
        self.first, self.second = nn.LayerNorm(6), nn.LayerNorm(6)
        self.across = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 4))
        self.along = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = by_convolution(x, self.embed)
        x = x + self.across(self.first(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.along(self.second(x))).mean(1))


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.locate, self.head = nn.Linear(64, 6), nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), *head(3))

    def forward(self, x: Tensor) -> Tensor:
        theta = self.locate(x.flatten(1)).view(-1, 2, 3) * 0.3 + torch.eye(2, 3).to(x)
        return self.head(
            F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
        )


class Unpooling(nn.Module):
    """An autoencoder whose maxima go back to where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv2d(1, 3, 3, padding=1), nn.ConvTranspose2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(self.encode(x), 2, return_indices=True)
        return self.decode(F.max_unpool2d(torch.tanh(pooled), places, 2))


class NonLocal(nn.Module):
    """Attention between pixels, and a learnt query that pools them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query, self.key, self.value = (nn.Conv2d(*sizes) for sizes in ((1, 4, 2, 2), *[(4, 4, 1)] * 3))
        self.pool, self.head = nn.Parameter(torch.randn(4)), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).tanh()
        q, k, v = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        x = x.flatten(2) + torch.einsum("bcj,bij->bci", v, torch.einsum("bci,bcj->bij", q, k).softmax(-1))
        return self.head(torch.einsum("bcp,bp->bc", x, torch.einsum("bcp,c->bp", x, self.pool).softmax(-1)))


class Modulated(nn.Module):
    """FiLM: scales and shifts of the channels come from a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.film, self.head = nn.Conv2d(3, 4, 3), nn.Linear(5, 8), nn.Sequential(*head(4))

    def forward(self, x: Tensor, said: Tensor) -> Tensor:
        scale, shift = self.film(said)[:, :, None, None].chunk(2, 1)
        places = torch.linspace(-1, 1, x.shape[-1]).to(x)
        grid = torch.stack(torch.meshgrid(places, places, indexing="ij")).expand(len(x), -1, -1, -1)
        return self.head(torch.relu((1 + scale) * self.conv(torch.cat([x, grid], 1)) + shift))


class Recurring(nn.Module):
    """A recurrent cell of convolutions over the frames of a film."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Conv2d(4, 9, 3, padding=1), nn.Sequential(*head(3))

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 3, *x.shape[3:])
        for frame in x.unbind(1):
            keep, write, new = self.gates(torch.cat([frame, state], 1)).chunk(3, 1)
            state = keep.sigmoid() * state + write.sigmoid() * new.tanh()
        return self.head(state)


class Frames(nn.Module):
    """Every frame of a film by the same network, as one batch of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.frame, self.head = (
            nn.Sequential(nn.Conv2d(1, 3, 3, 2), nn.ReLU(), nn.BatchNorm2d(3)),
            nn.Linear(3, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        each = self.frame(x.flatten(0, 1)).mean((2, 3))
        return self.head(each.reshape(len(x), -1, 3).amax(1))


def sharper() -> nn.Module:
    """Super-resolution."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PReLU(4), nn.Conv2d(4, 4, 3, padding=1), nn.PixelShuffle(2))


def film() -> Tensor:
    return torch.randn(N, 3, 1, 6, 6)


def vit(patches: Callable[[Tensor, nn.Module], Tensor], embed: nn.Module) -> Case:
    return classified(VisionTransformer(patches, embed), pictures())


def same(model: nn.Module) -> Case:
    x = pictures()
    return fitted(model, x, targets=x.clone())


MODELS: dict[str, Callable[[], Case]] = {
    "vision transformer, patches by convolution": lambda: vit(by_convolution, nn.Conv2d(1, WIDTH, PATCH, PATCH)),
    "vision transformer, patches by unfolding": lambda: vit(by_unfolding, nn.Linear(PATCH**2, WIDTH)),
    "vision transformer, patches by reshaping": lambda: vit(by_reshaping, nn.Linear(PATCH**2, WIDTH)),
    "shifted windows": lambda: classified(ShiftedWindows(), pictures()),
    "MLP mixer": lambda: classified(Mixer(), pictures()),
    "spatial transformer": lambda: classified(SpatialTransformer(), pictures(), differences=True),
    "autoencoder that unpools": lambda: same(Unpooling()),
    "pixel shuffle": lambda: fitted(sharper(), pictures(1, 4), targets=pictures()),
    "non-local attention and attention pooling": lambda: classified(NonLocal(), pictures()),
    "modulated by a second input": lambda: classified(Modulated(), pictures(), torch.randn(N, 5)),
    "recurrent convolutions": lambda: classified(Recurring(), film()),
    "frames as a batch": lambda: classified(Frames(), film()),
    "volumes": lambda: classified(
        nn.Sequential(nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
                      nn.Linear(3, CLASSES)),
        torch.randn(N, 1, 4, 4, 4),
    ),
    "upsampled and smoothed": lambda: same(
        nn.Sequential(
            *(nn.Conv2d(1, 3, 3, 2, 1), nn.Softplus(), nn.Upsample(scale_factor=2, mode="bilinear")),
            *(nn.ReplicationPad2d(1), nn.Conv2d(3, 1, 3), nn.Tanh()),
        )
    ),
}  # fmt: skip
