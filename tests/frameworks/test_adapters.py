"""``parameters="adapters"``: gradients of adapters against autograd, whatever base they stand in."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from languages import GROUPED, TEXTS, bert, built, flat, llama, rows, tokenizer
from upweight.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

LABELS = [0, 1, 2, 0, 1, 2, 0, 0]


def adapted(base: nn.Module, kind: Any = peft.LoraConfig, **options: Any) -> Any:
    torch.manual_seed(1)
    model = peft.get_peft_model(base, kind(**options)).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:  # LoRA begins at zero, where half of its gradients vanish
                value.add_(0.1 * torch.randn_like(value))
    return model


def lora(base: nn.Module, **options: Any) -> Any:
    settings = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    return adapted(base, **{**settings, **options})


def trained(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


def of_tokens(model: nn.Module) -> Tensor:
    """The token mean, by autograd in all that wants a gradient."""
    total, count = torch.zeros(()), 0
    for text in TEXTS:
        ids = torch.tensor(tokenizer()(text)["input_ids"])[None]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
        total = total + F.cross_entropy(logits.float(), ids[0, 1:], reduction="sum")
        count += ids.shape[1] - 1
    return flat(torch.autograd.grad(total / count, [value for _, value in trained(model)]))


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert float((actual - expected).norm()) <= tolerance * float(expected.norm())


def test_lora_is_theta_and_its_gradient_is_autograd_s() -> None:
    model = lora(llama())
    objective = uw.from_transformers(model, rows(), tokenizer())
    assert list(objective.layout.names) == [name for name, _ in trained(model)]
    close(objective.gradient(), of_tokens(model))
    assert any("θ is the adapters; the base is held fixed" in note for note in objective.notes)
    assert not objective.function.plan.slow


def test_adapters_that_are_loaded_for_inference_are_found_all_the_same() -> None:
    model = lora(llama())
    expected, names = of_tokens(model), [name for name, _ in trained(model)]
    model.requires_grad_(False)
    objective = uw.from_transformers(model, rows(), tokenizer())
    assert list(objective.layout.names) == names
    close(objective.gradient(), expected)


def test_of_several_adapters_the_active_one() -> None:
    model = lora(llama())
    model.add_adapter("other", peft.LoraConfig(r=3, target_modules=["o_proj"]))
    assert all("other" not in name for name in uw.Objective(model, *data(), parameters="adapters").layout.names)
    model.set_adapter("other")
    assert all("other" in name for name in uw.Objective(model, *data(), parameters="adapters").layout.names)


def data() -> tuple[Any, Any]:
    return uw.losses.CausalLM(), dict(tokenizer()(TEXTS, padding=True, return_tensors="pt"))


def test_modules_to_save_are_trained_in_their_copy() -> None:
    options = {"r": 2, "target_modules": ["query"], "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"}
    model = adapted(bert(), **options)
    objective = uw.from_transformers(model, rows(label=LABELS), tokenizer())
    names = list(objective.layout.names)
    assert names == [name for name, _ in trained(model)]
    assert [name for name in names if "modules_to_save" in name]
    assert not [name for name in names if "original_module" in name]
    batch = dict(tokenizer()(TEXTS, padding=True, return_tensors="pt"))
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    mean = F.cross_entropy(logits, torch.tensor(LABELS))
    close(objective.gradient(), flat(torch.autograd.grad(mean, [value for _, value in trained(model)])))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (peft.LoraConfig, {"r": 2, "use_dora": True, "target_modules": ["q_proj"]}),
        (peft.IA3Config, {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
        (peft.LoHaConfig, {"r": 2, "target_modules": ["q_proj"]}),
    ],
)
@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
def test_other_adapters(kind: Any, options: Any) -> None:
    model = adapted(llama(), kind, **options)
    objective = uw.from_transformers(model, rows(), tokenizer())
    assert list(objective.layout.names) == [name for name, _ in trained(model)]
    close(objective.gradient(), of_tokens(model))


def test_a_base_of_16_bits_stays_as_it_is() -> None:
    model = lora(llama().to(torch.bfloat16))
    objective = uw.from_transformers(model, rows(), tokenizer())
    assert objective.problem.forward == "own"
    assert objective.dtype == torch.float32
    base = objective.model.get_base_model().model.embed_tokens.weight
    assert base.dtype == torch.bfloat16
    close(objective.gradient(), of_tokens(model).float(), 0.05)
    wide = uw.from_transformers(model, rows(), tokenizer(), forward="float32")
    close(objective.gradient(), wide.gradient(), 0.05)


class Quantised(nn.Module):
    """A layer whose weights are whole numbers with a scale, as a frozen parameter."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.scale = float(layer.weight.detach().abs().max()) / 127
        whole = (layer.weight.detach() / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(whole, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.scale)


def test_a_quantised_base_is_held_fixed_and_can_t_be_attributed_itself() -> None:
    model = lora(llama())
    for layer in model.get_base_model().model.layers:
        layer.mlp.up_proj = Quantised(layer.mlp.up_proj)
    objective = uw.from_transformers(model, rows(), tokenizer())
    close(objective.gradient(), of_tokens(model))
    (layer,) = [part for part in objective.coverage().parts if part.name.endswith("up_proj.weight")]
    assert (layer.way, layer.norm) == ("left out", 0.0)
    with pytest.raises(
        InputError, match=r"is torch.int8: whole numbers, as a quantised layer's.*parameters='adapters'"
    ):
        uw.from_transformers(model, rows(), tokenizer(), parameters="*up_proj.weight")


def test_merged_adapters_are_told() -> None:
    model = lora(llama())
    expected = of_tokens(model)
    model.merge_adapter()
    with pytest.raises(InputError, match=r"parameters: the adapters of .* are merged.*call model.unmerge_adapter\(\)"):
        uw.from_transformers(model, rows(), tokenizer())
    model.unmerge_adapter()
    close(uw.from_transformers(model, rows(), tokenizer()).gradient(), expected, 1e-3)
    with pytest.raises(InputError, match=r"'adapters' were asked for, and the model has none.*merge_and_unload"):
        uw.Objective(model.merge_and_unload(), *data(), parameters="adapters")


class ByHand(nn.Module):
    """LoRA as people write it themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(4, 3)
        self.lora_A, self.lora_B = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def test_adapters_of_one_s_own_go_by_their_names() -> None:
    model = nn.Sequential(ByHand(), nn.Tanh(), nn.Linear(3, 3))
    pairs = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    objective = uw.Objective(model, uw.losses.CrossEntropy(), pairs, parameters="adapters")
    assert objective.layout.names == ("0.lora_A", "0.lora_B")
    with_head = uw.Objective(model, uw.losses.CrossEntropy(), pairs, parameters=["adapters", "2.*"])
    assert with_head.layout.names == ("0.lora_A", "0.lora_B", "2.weight", "2.bias")


def test_experts_in_one_parameter_are_attributed_or_named() -> None:
    options = {"num_local_experts": 3, "num_experts_per_tok": 2, **GROUPED}
    model = built("MixtralForCausalLM", "MixtralConfig", experts_implementation="eager", **options)
    objective = uw.from_transformers(model, rows(), tokenizer())
    close(objective.gradient(), of_tokens(model))
    experts = [part for part in objective.coverage().parts if "experts" in part.name]
    assert experts
    assert all(part.way in ("factors", "slow") and part.norm > 0 for part in experts)
