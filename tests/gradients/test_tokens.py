"""Gradients by position are what is left where every other position's part is cut off, layer by layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import upweight as uw
from problems import DOUBLE, close
from upweight.errors import InputError
from upweight.gradients import FactoredFunction
from upweight.gradients.tokens import TokenGradients
from zoo.case import CLASSES, WORDS
from zoo.hugging_face import GPT2, GROUPED, MODELS, built
from zoo.padded import FAMILIES

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore::upweight.SlowPathWarning"),
]
N, T, D = 4, 5, 4


class TimeFirst(nn.Module):
    """A block of attention on ``[time, batch, features]``, as torch's older layers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(WORDS, D), nn.Embedding(T, D)
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens.T) + self.places(torch.arange(T))[:, None]
        q, k, v = (layer(x).transpose(0, 1) for layer in (self.q, self.k, self.v))
        weights = (q @ k.mT + torch.ones(T, T).triu(1) * -1e9).softmax(-1)
        return self.head(self.norm(x + (weights @ v).transpose(0, 1))).transpose(0, 1)


class Mean(nn.Module):
    """A head on the mean of all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(WORDS, D), nn.Linear(D, D), nn.Linear(D, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.table(tokens)).tanh().mean(1))


@contextmanager
def only(model: nn.Module, position: int, axis: Callable[[Tensor], int | None]) -> Iterator[None]:
    """Every layer's parameters feel the gradient at one position of its output alone; nothing else changes."""
    held = []

    def cut(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        fixed = {name: value.detach() for name, value in module.named_parameters()}
        for hook in held:
            hook.pause.append(module)
        plain = functional_call(module, fixed, given)
        for hook in held:
            hook.pause.pop()
        dim = axis(output)
        if dim is None:  # a pooled head: at the first position
            return output if position == 0 else plain
        there = (torch.arange(output.shape[dim]) == position).to(output)
        return plain + there.reshape(-1, *[1] * (output.dim() - dim - 1)) * (output - plain)

    class Hook:
        def __init__(self, module: nn.Module):
            self.pause: list[nn.Module] = []
            self.handle = module.register_forward_hook(self)

        def __call__(self, module: nn.Module, given: Any, output: Tensor) -> Tensor | None:
            return None if module in self.pause else cut(module, given, output)

    held += [Hook(module) for module in model.modules() if list(module.parameters(recurse=False))]
    try:
        yield
    finally:
        for hook in held:
            hook.handle.remove()


def gpt2() -> nn.Module:
    return built("GPT2LMHeadModel", "GPT2Config", **{**GPT2, "n_embd": 4, "n_layer": 1, "attn_implementation": "sdpa"})


def qwen() -> nn.Module:
    return built("Qwen2ForCausalLM", "Qwen2Config", **GROUPED, tie_word_embeddings=True, attn_implementation="sdpa")


def bert() -> nn.Module:
    return built("BertForSequenceClassification", "BertConfig", attn_implementation="sdpa")


def last(output: Tensor) -> int | None:
    return output.dim() - 2 if output.dim() > 2 else None


CASES: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[Tensor], int | None]]] = {
    "GPT-2": (gpt2, uw.losses.CausalLM(), last),
    "Qwen 2": (qwen, uw.losses.CausalLM(), last),
    "BERT": (bert, uw.losses.CrossEntropy(), last),
    "time first": (TimeFirst, uw.losses.CausalLM(), lambda output: 0 if output.dim() > 2 else output.dim() - 2),
}


def case(name: str) -> tuple[uw.Objective, nn.Module, Any]:
    make, loss, _ = CASES[name]
    torch.manual_seed(0)
    model = make().to(DOUBLE).eval()
    tokens = torch.randint(3, WORDS, (N, T))
    if name == "time first":
        return uw.Objective(model, loss, tokens), model, tokens
    labels = torch.arange(N) % CLASSES if name == "BERT" else tokens
    data = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    return uw.Objective(model, loss, data), model, data


def by_position(objective: uw.Objective, data: Any) -> TokenGradients:
    function = objective.engine.function
    assert isinstance(function, FactoredFunction)
    return function.tokens(objective.params, data)


@pytest.mark.parametrize("name", CASES)
def test_a_positions_part_is_what_is_left_where_the_others_are_cut_off(name: str) -> None:
    objective, model, data = case(name)
    found = by_position(objective, data)
    assert not found.remainder
    parts, rest = found.materialize()
    assert not rest.any()
    for position in range(T):
        with only(model, position, CASES[name][2]):
            values = objective.loss(model, data)
            for example in range(N):
                gradient = torch.autograd.grad(
                    values[example],
                    list(model.parameters()),
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
                flat = torch.cat([part.flatten() for part in gradient])
                close(parts[example, position], flat, rtol=1e-7, atol=1e-7 * float(flat.abs().max()) + 1e-15)


ALL = {name: make for name, make in MODELS.items() if name in ("OPT", "Falcon", "BART", "ALBERT", "Mixtral", "Mamba")}


@pytest.mark.parametrize("name", ALL)
def test_parts_and_remainder_sum_to_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    made = ALL[name]()
    objective = uw.Objective(made.model.float().eval(), made.loss, made.data)
    function, batch = objective.engine.function, objective.data.take(list(range(6)))
    assert isinstance(function, FactoredFunction)
    found = function.tokens(objective.params, batch)
    assert bool(found.remainder) == (name == "Mamba")
    parts, rest = found.materialize()
    whole = function.each(objective.params, batch).materialize()
    close(parts.sum(1) + rest, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    vectors = torch.randn(2, objective.p)
    tokens, apart = found.take([1, 4]).inner(vectors)
    close(tokens, torch.einsum("kp,btp->kbt", vectors, parts[[1, 4]]), rtol=1e-3, atol=1e-4)
    close(apart, vectors @ rest[[1, 4]].T, rtol=1e-3, atol=1e-4)


def test_padding_has_nothing_at_all() -> None:
    data = FAMILIES["Llama"].data("left", 2)
    objective = FAMILIES["Llama"].objective(torch.float32, data)
    parts, _ = by_position(objective, data).materialize()
    assert not parts[data["attention_mask"] == 0].any()


def test_what_acts_on_a_mean_is_a_remainder_with_its_reason() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, WORDS, (N, T))
    objective = uw.Objective(Mean(), uw.losses.CrossEntropy(), (tokens, torch.arange(N) % CLASSES))
    found = by_position(objective, objective.data.take(list(range(N))))
    assert found.remainder == {"head.weight": "AddmmBackward0 acts at no one position"}
    assert found.fields[0].stop == T


def test_without_tokens_there_are_no_positions() -> None:
    objective = uw.Objective(
        nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, CLASSES)),
        uw.losses.CrossEntropy(),
        (torch.randn(N, D), torch.arange(N) % CLASSES),
    )
    with pytest.raises(InputError, match=r"by: no table is looked up by the batch's tokens \(input_ids\)"):
        by_position(objective, objective.data.take([0, 1]))
