"""Models with hooks, of own classes, that squeeze; labels that aren't shifted; an optimiser's groups."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close

X, Y = torch.randn(9, 4, dtype=DOUBLE), torch.arange(9) % 3
X[[0, 4, 8], 0] = -1  # what is looked at first is as a plain layer would have it


class Clipped(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return torch.where(x[:, :1] > 0.5, 2 * z, z)


def hooked(model: nn.Module, layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda _, inputs, z: torch.where(inputs[0][:, :1] > 0.5, 2 * z, z))
    return model


def before() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.register_forward_pre_hook(lambda _, inputs: (torch.where(inputs[0][:, :1] > 0.5, 2 * inputs[0], inputs[0]),))
    return layer


MODELS: dict[str, Any] = {
    "a subclass": lambda: Clipped(nn.Linear(4, 3)),
    "a hook on the layer": lambda: hooked(layer := nn.Linear(4, 3), layer),
    "a hook on the model": lambda: hooked(model := nn.Sequential(nn.Linear(4, 3)), model),
    "a hook before": before,
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_hung_on_a_last_layer_counts(name: str) -> None:
    model = MODELS[name]().to(DOUBLE)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (X, Y))
    assert not objective.is_linear
    close(objective.losses(), F.cross_entropy(model(X), Y, reduction="none").detach())
    rows = []
    for i in range(9):
        loss = F.cross_entropy(model(X[i : i + 1]), Y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    close(torch.cat([block for _, block in objective.example_gradients()]), torch.stack(rows))


class Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).squeeze()


def test_a_model_that_squeezes_its_examples_away_is_refused_with_the_mend() -> None:
    with pytest.raises(uw.InputError, match=r"model: of two .* \[2\], and of one alone \[\].*write squeeze\(-1\)"):
        uw.Objective(Squeezed(), uw.losses.SquaredError(), (X.float(), torch.randn(9)))


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(input_ids)))


def spelt(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b["input_ids"]).transpose(1, 2), b["labels"], reduction="none").sum(1)


@pytest.mark.parametrize(
    "loss",
    [
        uw.losses.CrossEntropy(),
        uw.losses.CrossEntropy(temperature=1.4),
        uw.losses.CrossEntropy(label_smoothing=0.1),
        uw.losses.CrossEntropy(factor=0.5),
        uw.losses.CrossEntropy(weight=[1.0] * 9),
        nn.CrossEntropyLoss(),
        spelt,
    ],
    ids=["plain", "temperature", "smoothing", "factor", "weight", "torch's", "function"],
)
@pytest.mark.parametrize("ignored", [0, 2])
def test_labels_that_are_the_tokens_themselves_are_refused_under_any_cross_entropy(loss: Any, ignored: int) -> None:
    ids = torch.randint(0, 9, (6, 7), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:ignored] = -100
    with pytest.raises(uw.InputError, match=r"the labels are the input tokens at their own places.*losses\.CausalLM"):
        uw.Objective(Language(), loss, {"input_ids": ids, "labels": labels})
    kept = uw.Objective(Language(), uw.losses.Function(spelt), {"input_ids": ids, "labels": labels})
    assert kept.losses().isfinite().all()


def test_an_optimisers_groups_are_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(DOUBLE)
    optimiser = torch.optim.SGD([{"params": model[2].parameters(), "lr": 0.1}, {"params": [model[0].bias]}], lr=0.2)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (X, Y), parameters=optimiser.param_groups)
    assert objective.layout.names == ("0.bias", "2.weight", "2.bias")
    one = uw.Objective(model, uw.losses.CrossEntropy(), (X, Y), parameters=optimiser.param_groups[0])
    assert one.layout.names == ("2.weight", "2.bias")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [1, 3])
def test_of_a_single_example_nothing_is_said_of_noise(dtype: torch.dtype, copies: int) -> None:
    x, y = X[:1].to(dtype).repeat(copies, 1), Y[:1].repeat(copies)
    for seed in range(20):  # of which a third had a noise of the size of rounding
        torch.manual_seed(seed)
        objective = uw.Objective(nn.Linear(4, 3).to(dtype), uw.losses.CrossEntropy(), (x, y), l2=0.1)
        assert objective.stationarity().noise == 0
        assert not objective.stationarity().is_notable


def test_eager_attention_in_double_precision_is_told() -> None:
    transformers = pytest.importorskip("transformers")
    tokens = torch.tensor([[3, 4, 5, 6], [0, 0, 7, 8], [4, 5, 6, 7]])
    data = {"input_ids": tokens, "attention_mask": (tokens > 0).long(), "labels": tokens.masked_fill(tokens == 0, -100)}
    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "pad_token_id": 0}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}

    def made(way: str) -> uw.Objective:
        config = transformers.LlamaConfig(**sizes, **heads, attn_implementation=way)
        return uw.Objective(transformers.LlamaForCausalLM(config).double().eval(), uw.losses.CausalLM(), data)

    with pytest.raises(uw.InputError, match=r"loss: NaN .* position 1; .*attn_implementation='sdpa', as eager"):
        made("eager")
    assert made("sdpa").losses().isfinite().all()
