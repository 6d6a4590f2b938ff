"""Sequences by recurrence, convolution, scans and transforms; padded, packed and ragged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zoo.case import (
    CLASSES,
    WORDS,
    Case,
    D,
    N,
    T,
    classified,
    continued,
    fitted,
    longer,
    mask,
    own,
    tokens,
)


class Last(nn.Module):
    """The last hidden state of a recurrent network."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any):
        super().__init__()
        self.rnn = kind(D, 5, batch_first=True, **options)
        width = options.get("proj_size") or 5
        self.head = nn.Linear(2 * width if options.get("bidirectional") else width, CLASSES)
        self.ways = 2 if options.get("bidirectional") else 1

    def forward(self, x: Tensor) -> Tensor:
        last = self.rnn(x)[1]
        last = last[0] if isinstance(last, tuple) else last
        return self.head(last[-self.ways :].transpose(0, 1).flatten(1))


class Packed(nn.Module):
    """The same, packed: padding isn't read."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any):
        super().__init__()
        self.rnn, ways = kind(D, 5, batch_first=True, **options), 2 if options.get("bidirectional") else 1
        self.head = nn.Linear(5 * ways, CLASSES)

    def forward(self, x: Tensor, here: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, here.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        rows, lengths = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(rows.sum(1) / lengths[:, None].to(rows))


class Cells(nn.Module):
    """A cell in a loop, from a state that is learnt."""

    def __init__(self, kind: type[nn.RNNCellBase]):
        super().__init__()
        self.cell, self.start, self.head = kind(D, 5), nn.Parameter(torch.randn(1, 5)), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = self.start.expand(len(x), -1)
        state = (state, state.tanh()) if isinstance(self.cell, nn.LSTMCell) else state
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Tagger(nn.Module):
    """A class for every word, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, D, padding_idx=0), nn.Linear(8, CLASSES)
        self.rnn = nn.LSTM(D, 4, bidirectional=True, batch_first=True)

    def forward(self, index: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.words(index), (index > 0).sum(1), batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=index.shape[1])[0])


class Attending(nn.Module):
    """Sequence to sequence: additive attention on the encoder, the right words given."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.encoder, self.decoder = (
            nn.Embedding(WORDS, D),
            nn.GRU(D, 5, batch_first=True),
            nn.GRUCell(9, 5),
        )
        self.query, self.key, self.score = nn.Linear(5, 4), nn.Linear(5, 4, bias=False), nn.Linear(4, 1, bias=False)
        self.head = nn.Linear(5, WORDS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        rows, last = self.encoder(self.words(source))
        state, keys, outs = last[0], self.key(rows), []
        for word in target.unbind(1):
            weights = self.score(torch.tanh(self.query(state)[:, None] + keys)).softmax(1)
            state = self.decoder(torch.cat([self.words(word), (weights * rows).sum(1)], 1), state)
            outs.append(self.head(state))
        return torch.stack(outs, 1)


class Causal(nn.Module):
    """Dilated convolutions that don't look ahead, weight-normed, with gates."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, D)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(D, 2 * D, 2, dilation=d)) for d in (1, 2)
        )
        self.head = nn.Linear(D, WORDS)

    def forward(self, index: Tensor) -> Tensor:
        x = self.words(index).transpose(1, 2)
        for k, layer in enumerate(self.layers):
            x = x + F.glu(layer(F.pad(x, (2**k, 0))), dim=1)
        return self.head(x.transpose(1, 2))


class Scan(nn.Module):
    """A state space: a diagonal recurrence with steps and gates from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.steps = nn.Parameter(torch.rand(D, 3).log()), nn.Linear(D, D)
        self.ins, self.outs, self.gate = nn.Linear(D, 3, bias=False), nn.Linear(D, 3, bias=False), nn.Linear(D, D)
        self.skip, self.head = nn.Parameter(torch.ones(D)), nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        step, state, found = F.softplus(self.steps(x)), x.new_zeros(len(x), D, 3), []
        decay = torch.exp(-step[..., None] * self.rate.exp())
        drive = step[..., None] * self.ins(x)[:, :, None] * x[..., None]
        for t in range(x.shape[1]):
            state = decay[:, t] * state + drive[:, t]
            found.append((state * self.outs(x[:, t])[:, None]).sum(-1))
        return self.head(((torch.stack(found, 1) + self.skip * x) * F.silu(self.gate(x))).mean(1))


class Cumulative(nn.Module):
    """Linear attention as cumulative sums, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.qkv, self.head = nn.Embedding(WORDS, D), nn.Linear(D, 3 * D), nn.Linear(D, WORDS)

    def forward(self, index: Tensor) -> Tensor:
        q, k, v = self.qkv(self.words(index)).chunk(3, -1)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        sums = torch.einsum("btd,bte->btde", k, v).cumsum(1)
        return self.head(torch.einsum("btd,btde->bte", q, sums) / (q * k.cumsum(1)).sum(-1, keepdim=True))


class LongFilter(nn.Module):
    """A filter as long as the sequence, by the transform of Fourier."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.mix, self.head = nn.Parameter(torch.randn(D, T) / 2), nn.Linear(D, D), nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        known = torch.fft.rfft(x.transpose(1, 2), 2 * T) * torch.fft.rfft(self.filter, 2 * T)
        return self.head(self.mix(torch.fft.irfft(known, 2 * T)[..., :T].transpose(1, 2)).tanh().mean(1))


class Fourier(nn.Module):
    """FNet: mixed by a transform without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down, self.head = (
            nn.LayerNorm(D),
            nn.Linear(D, 6),
            nn.Linear(6, D),
            nn.Linear(D, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + torch.fft.fft2(x).real)
        return self.head((x + self.down(F.mish(self.up(x)))).amax(1))


class Letters(nn.Module):
    """Words by their letters: convolutions of several widths and maxima, as one batch of words."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(WORDS, 3), nn.Linear(4, CLASSES)
        self.widths = nn.ModuleList(nn.Conv1d(3, 2, width) for width in (2, 3))

    def forward(self, index: Tensor) -> Tensor:
        b, words, letters = index.shape
        x = self.letters(index).view(b * words, letters, 3).transpose(1, 2)
        found = torch.cat([layer(x).amax(2) for layer in self.widths], 1)
        return self.head(found.view(b, words, -1).mean(1))


def pooled(x: Tensor) -> tuple[Tensor, ...]:
    return torch.where(mask()[..., None], x, 7.0), mask()


def tagged(index: Tensor) -> Tensor:
    return torch.where(index > 0, torch.randint(0, CLASSES, index.shape), -100)


def ctc(model: nn.Module, batch: Any) -> Tensor:
    x, lengths, labels, sizes = batch
    log_p = model(x).log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_p, labels, lengths, sizes, reduction="none", zero_infinity=True)


def sequence(model: nn.Module, **options: Any) -> Case:
    return classified(model, torch.randn(N, T, D), **options)


def packed(model: nn.Module) -> Case:
    return classified(model, *pooled(torch.randn(N, T, D)), padded=lambda data: longer(data, {0: 9.0, 1: False}))


def tagger() -> Case:
    index = torch.where(mask(), tokens(), 0)
    return classified(Tagger(), index, labels=tagged(index), padded=lambda data: longer(data, {0: 0, 1: -100}))


def translated() -> Case:
    return classified(Attending(), tokens(), tokens(3), labels=tokens(3))


def heard() -> Case:
    model = nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    lengths, labels = torch.tensor([8, 6, 7, 8, 5, 8]), torch.tensor([[1, 2], [2, 2], [1, 0], [2, 1], [1, 2], [1, 1]])
    sizes = torch.tensor([2, 2, 1, 2, 2, 2])
    return own(model, ctc, (torch.randn(N, 8, D), lengths, labels, sizes), once="_ctc_loss_backward")


MODELS: dict[str, Callable[[], Case]] = {
    **{
        f"{kind.__name__}, last state": partial(lambda kind: sequence(Last(kind)), kind)
        for kind in (nn.RNN, nn.LSTM, nn.GRU)
    },
    "LSTM of two layers both ways with projections": lambda: sequence(
        Last(nn.LSTM, num_layers=2, bidirectional=True, proj_size=3)
    ),
    "RNN with ReLU, without biases": lambda: sequence(Last(nn.RNN, nonlinearity="relu", bias=False)),
    "LSTM, packed": lambda: packed(Packed(nn.LSTM)),
    "GRU of two layers both ways, packed": lambda: packed(Packed(nn.GRU, num_layers=2, bidirectional=True)),
    "LSTM cells from a learnt state": lambda: sequence(Cells(nn.LSTMCell)),
    "GRU cells from a learnt state": lambda: sequence(Cells(nn.GRUCell)),
    "tags of words both ways": tagger,
    "sequence to sequence with attention": translated,
    "causal convolutions": lambda: continued(Causal(), tokens(), differences=True),
    "state space": lambda: sequence(Scan()),
    "linear attention by cumulative sums": lambda: continued(Cumulative(), tokens()),
    "long filter by Fourier transform": lambda: sequence(LongFilter()),
    "mixed by Fourier transform": lambda: sequence(Fourier()),
    "words by letters": lambda: classified(Letters(), torch.randint(0, WORDS, (N, 3, 4))),
    "alignments summed (CTC)": heard,
    "forecast of a series": lambda: fitted(
        nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.SELU(), nn.Flatten(), nn.Linear(24, 4)),
        torch.randn(N, 2, 8),
        targets=torch.randn(N, 4),
    ),
}
