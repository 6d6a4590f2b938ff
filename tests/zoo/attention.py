"""Transformers as people write them: masks, padding, positions of every kind, gates, shared heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import CLASSES, WORDS, Case, N, T, classified, continued, longer, mask, own, tokens

WIDTH, HEADS = 8, 2


class Classifier(nn.Module):
    """torch's encoder on padded sentences, pooled over what is there."""

    def __init__(self, **options: Any):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH, padding_idx=0), nn.Embedding(12, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 10, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, index: Tensor) -> Tensor:
        there = index > 0
        x = self.words(index) + self.places(torch.arange(index.shape[1], device=index.device))
        x = self.encoder(x, src_key_padding_mask=~there) * there[..., None]
        return self.head(x.sum(1) / there.sum(1, keepdim=True))


class Translator(nn.Module):
    """torch's transformer: causal in the target, padding of the source masked."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.body = nn.Transformer(WIDTH, HEADS, 1, 1, 10, batch_first=True)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        ahead = nn.Transformer.generate_square_subsequent_mask(target.shape[1]).isinf()
        away = source == 0
        out = self.body(self.words(source), self.words(target), tgt_mask=ahead, src_key_padding_mask=away,
                        memory_key_padding_mask=away)  # fmt: skip
        return self.head(out)


class Decoder(nn.Module):
    """A causal language model whose parts are told by ``options``."""

    def __init__(self, *, positions: str = "learnt", grouped: bool = False, gated: bool = False, tied: bool = False,
                 norm: type[nn.Module] = nn.LayerNorm, parallel: bool = False):  # fmt: skip
        super().__init__()
        self.positions, self.parallel = positions, parallel
        self.kept = 1 if grouped else HEADS
        self.words, self.first, self.last = nn.Embedding(WORDS, WIDTH), norm(WIDTH), norm(WIDTH)
        if not parallel:
            self.second = norm(WIDTH)
        self.q, self.out = nn.Linear(WIDTH, WIDTH, bias=not gated), nn.Linear(WIDTH, WIDTH, bias=not gated)
        self.kv = nn.Linear(WIDTH, 2 * self.kept * 4, bias=not gated)
        self.up, self.down = nn.Linear(WIDTH, 10), nn.Linear(10, WIDTH)
        if gated:
            self.gate = nn.Linear(WIDTH, 10, bias=False)
        if positions == "learnt":
            self.places = nn.Parameter(torch.randn(1, 9, WIDTH))
        if positions == "relative":
            self.table = nn.Embedding(8, HEADS)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, index: Tensor) -> Tensor:
        x = self.words(index)
        if self.positions == "learnt":
            x = x + self.places[:, : index.shape[1]]
        if self.parallel:
            y = self.first(x)
            x = x + self.attention(y) + self.feed(y)
        else:
            x = x + self.attention(self.first(x))
            x = x + self.feed(self.second(x))
        return self.head(self.last(x))

    def feed(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x) if hasattr(self, "gate") else F.gelu(self.up(x)))

    def attention(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, HEADS, 4).transpose(1, 2)
        k, v = self.kv(x).view(b, t, 2, self.kept, 4).permute(2, 0, 3, 1, 4)
        if self.positions == "rotary":
            q, k = rotated(q), rotated(k)
        bias = self.bias(t, x)
        if bias is None:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kept < HEADS)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).reshape(b, t, -1))

    def bias(self, t: int, x: Tensor) -> Tensor | None:
        """What attention adds for how far apart two places are."""
        apart = torch.arange(t, device=x.device)[:, None] - torch.arange(t, device=x.device)
        if self.positions == "linear":
            slopes = torch.tensor([0.5, 0.25], device=x.device, dtype=x.dtype)[:, None, None]
            found = -slopes * apart
        elif self.positions == "relative":
            found = self.table(apart.clamp(0, 7)).permute(2, 0, 1)
        else:
            return None
        return found.masked_fill(apart < 0, -math.inf)


def rotated(x: Tensor) -> Tensor:
    angles = torch.arange(x.shape[2]).to(x)[:, None] * torch.tensor([1.0, 0.1]).to(x)
    first, second = x.chunk(2, -1)
    return torch.cat([first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()], -1)


class ComplexRotary(nn.Module):
    """Positions as complex phases of pairs of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.qk, self.head = nn.Embedding(WORDS, 4), nn.Linear(4, 8, bias=False), nn.Linear(4, WORDS)

    def forward(self, index: Tensor) -> Tensor:
        x = self.words(index)
        phases = torch.polar(torch.ones(index.shape[1]).to(x), torch.arange(index.shape[1]).to(x))[:, None]
        q, k = (
            torch.view_as_real(torch.view_as_complex(part.unflatten(-1, (2, 2)).contiguous()) * phases).flatten(2)
            for part in self.qk(x).chunk(2, -1)
        )
        ahead = torch.ones(index.shape[1], index.shape[1], dtype=torch.bool).triu(1)
        return self.head((q @ k.mT).masked_fill(ahead, -1e9).softmax(-1) @ x)


class Perceiver(nn.Module):
    """A few learnt vectors look at the input; the input's own order is a batch-second one."""

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.look = nn.Parameter(torch.randn(3, WIDTH)), nn.MultiheadAttention(WIDTH, 2, kdim=4, vdim=4)
        self.think, self.head = nn.TransformerDecoderLayer(WIDTH, 2, 10), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        latents = self.latents[:, None].expand(-1, x.shape[1], -1)
        seen = self.look(latents, x, x)[0]
        return self.head(self.think(seen, seen).mean(0))


class Recycled(nn.Module):
    """One layer again and again, each time with a vector of its own; biased keys and values, an empty key."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)
        self.times, self.head = nn.Embedding(3, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for time in range(3):
            x = F.rms_norm(x + self.times.weight[time], [4])
            x = x + self.look(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


class Masked(nn.Module):
    """Words to be guessed are gathered from all sentences before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 10, batch_first=True)

    def forward(self, index: Tensor) -> Tensor:
        return self.layer(self.words(index))


def guessed(model: nn.Module, batch: Any) -> Tensor:
    index, hidden, truth = batch
    rows = model(index)[hidden]
    each = F.cross_entropy(model.head(rows), truth[hidden], reduction="none")
    return each.new_zeros(len(index)).index_add(0, hidden.nonzero()[:, 0], each)


def sentences() -> Tensor:
    return torch.where(mask(), tokens(), 0)


def padded(model: nn.Module) -> Case:
    return classified(model, sentences(), padded=lambda data: longer(data, {0: 0}, 3))


def translation() -> Case:
    return classified(Translator(), sentences(), tokens(3), labels=tokens(3), padded=lambda data: longer(data, {0: 0}))


def language(**options: Any) -> Case:
    return continued(Decoder(**options), tokens(), padded=lambda data: longer(data, {0: 0, 1: -100}))


MODELS: dict[str, Callable[[], Case]] = {
    "encoder of padded sentences": lambda: padded(Classifier()),
    "encoder of padded sentences, norms first": lambda: padded(Classifier(norm_first=True, activation="gelu")),
    "encoder and decoder with masks": translation,
    "decoder, positions learnt, head tied": lambda: language(tied=True),
    "decoder, rotary, gated, root-mean-square norms": lambda: language(positions="rotary", gated=True, norm=nn.RMSNorm),
    "decoder, grouped queries": lambda: language(positions="rotary", grouped=True),
    "decoder, linear biases": lambda: language(positions="linear"),
    "decoder, relative positions": lambda: language(positions="relative", tied=True),
    "decoder, attention beside the gate": lambda: language(positions="rotary", parallel=True),
    "rotary as complex phases": lambda: continued(ComplexRotary(), tokens()),
    "learnt vectors that look": lambda: classified(Perceiver(), torch.randn(N, T, 4)),
    "one layer again and again": lambda: classified(Recycled(), torch.randn(N, T, 4)),
    "words guessed where hidden": lambda: own(Masked(), guessed, (tokens(), torch.rand(N, T).argsort(1) < 2, tokens())),
}
