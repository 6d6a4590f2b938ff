"""Tiny language models, a tokenizer of letters, and rows of text, for what is trained by tools around PyTorch."""

from __future__ import annotations

import logging
import tempfile
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import datasets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

logging.getLogger("transformers").setLevel(logging.ERROR)
datasets.disable_progress_bars()

WORDS = ["<pad>", "<eos>", "<unk>", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]
TEXTS = ["a b c d", "b c", "e f g h i", "a a a", "k j i h", "c d e", "f g", "h i j k a"]
CLASSES = 3


def tokenizer(**options: Any) -> Any:
    numbered = {word: number for number, word in enumerate(WORDS)}
    split = Tokenizer(models.WordLevel(numbered, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=split, **special, **options)


def rows(texts: list[str] = TEXTS, **columns: Any) -> datasets.Dataset:
    """Texts, their tokens, and what else is given."""
    tokens = [tokenizer()(text) for text in texts]
    named = {key: [one[key] for one in tokens] for key in ("input_ids", "attention_mask")}
    return datasets.Dataset.from_dict({"text": texts, "number": list(range(len(texts))), **named, **columns})


SIZES = {
    "vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 10, "max_position_embeddings": 12, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    "num_labels": CLASSES,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 1, "head_dim": 4}


def built(architecture: str, configuration: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, configuration)(**{**SIZES, **changes})
    return getattr(transformers, architecture)(config).eval()


def llama(**changes: Any) -> Any:
    return built("LlamaForCausalLM", "LlamaConfig", **GROUPED, **changes)


def gpt2() -> Any:
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 12}
    still = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return built("GPT2LMHeadModel", "GPT2Config", **sizes, **still)


def bert(kind: str = "Sequence", **changes: Any) -> Any:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return built(f"BertFor{kind}Classification", "BertConfig", **still, **changes)


def trainer(model: nn.Module, dataset: Any, kind: type = transformers.Trainer, **options: Any) -> Any:
    """One step of plain gradient descent on the whole data, in four accumulated batches."""
    apart = ("data_collator", "compute_loss_func", "eval_dataset")
    named = {key: options.pop(key) for key in list(options) if key in apart}
    settings = {
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 1, "learning_rate": 0.1,
        "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0.0, "weight_decay": 0.0, "report_to": [],
        "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no",
    }  # fmt: skip
    arguments = transformers.TrainingArguments(tempfile.mkdtemp(), **{**settings, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(model, arguments, train_dataset=dataset, processing_class=tokenizer(), **named)


def next_tokens() -> Any:
    return transformers.DataCollatorForLanguageModeling(tokenizer(), mlm=False)


def flat(values: Any) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in values])
