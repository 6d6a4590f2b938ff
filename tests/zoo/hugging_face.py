"""Architectures of the transformers library, tiny, from their configurations alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import upweight as uw
from zoo.case import CLASSES, WORDS, Case, N, compared, logits, longer, mask, named, next_tokens, tokens

LENGTHS = (5, 3, 4, 2, 5, 2)
SIZES = {
    "vocab_size": WORDS, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 10,
    "max_position_embeddings": 12, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": CLASSES,
}  # fmt: skip


def built(architecture: str, configuration: str, **changes: Any) -> nn.Module:
    """Quietly, and only when it is asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)
        import transformers

        config = getattr(transformers, configuration)(**{**SIZES, **changes})
        return getattr(transformers, architecture)(config)


def padded_to(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return longer(data, {"input_ids": 0, "attention_mask": 0, "labels": -100} if data["labels"].dim() > 1 else
                  {"input_ids": 0, "attention_mask": 0})  # fmt: skip


def sentences() -> dict[str, Tensor]:
    there = mask(LENGTHS)
    return {"input_ids": torch.where(there, tokens(first=3), 0), "attention_mask": there.long()}


def classifier(prefix: str, **changes: Any) -> Case:
    model = built(f"{prefix}ForSequenceClassification", f"{prefix}Config", **changes)
    return named(model, logits, padded=padded_to, **sentences())


def tagger(prefix: str, **changes: Any) -> Case:
    model, data = built(f"{prefix}ForTokenClassification", f"{prefix}Config", **changes), sentences()
    labels = torch.where(mask(LENGTHS), data["input_ids"] % CLASSES, -100)
    return named(model, logits, padded=padded_to, labels=labels, **data)


def language(
    prefix: str, suffix: str = "ForCausalLM", *, lengths: bool = True, precision: float = 0.0, **changes: Any
) -> Case:
    model, data = built(prefix + suffix, f"{prefix}Config", **changes), sentences()
    if not lengths:
        data = {"input_ids": tokens(first=3)}
    data["labels"] = torch.where(data["input_ids"] > 0, data["input_ids"], -100)
    padded = padded_to if lengths else None
    return Case(model, data, uw.losses.CausalLM(), compared(next_tokens, logits), padded=padded, precision=precision)


def translator(architecture: str, configuration: str, **changes: Any) -> Case:
    model = built(architecture, configuration, decoder_start_token_id=0, **changes)
    return named(model, logits, padded=lambda data: longer(data, {"input_ids": 0, "attention_mask": 0}),
                 decoder_input_ids=tokens(3), labels=tokens(3), **sentences())  # fmt: skip


def viewer(prefix: str, **changes: Any) -> Case:
    sizes = {"image_size": 8, "patch_size": 4, "num_channels": 1, **changes}
    model = built(f"{prefix}ForImageClassification", f"{prefix}Config", **sizes)
    return named(model, logits, pixel_values=torch.randn(N, 1, 8, 8))


class Pooled(nn.Module):
    """A body's pooled output with a head."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body, self.head = body, nn.Linear(8, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.body(input_ids=input_ids, attention_mask=attention_mask).pooler_output)


def text_of_clip() -> Case:
    return named(Pooled(built("CLIPTextModel", "CLIPTextConfig")), padded=padded_to, **sentences())


def listener() -> Case:
    model = built(
        *("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config"),
        **{"conv_dim": (4, 4), "conv_kernel": (4, 3), "conv_stride": (3, 2), "mask_time_prob": 0.0},
        **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 6},
    )
    return named(model, logits, input_values=torch.randn(N, 40), differences=True)


HEAD = {"head_dim": 4}
GROUPED = {"num_key_value_heads": 1, **HEAD}
SWIN = {"embed_dim": 4, "depths": [2, 1], "num_attention_heads": [2, 2], "window_size": 2, "patch_size": 2}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 10, "num_layers": 1, "num_heads": 2}
BART = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 10, "decoder_ffn_dim": 10}  # fmt: skip
GPT2 = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 12, "n_inner": 10}
ROBERTA = {"max_position_embeddings": 14}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "position_buckets": 4}
EXPERTS = {"experts_implementation": "eager", "num_local_experts": 3, "num_experts_per_tok": 2, **GROUPED}

MODELS: dict[str, Callable[[], Case]] = {
    "BERT": partial(classifier, "Bert"),
    "BERT, tags": partial(tagger, "Bert"),
    "RoBERTa": partial(classifier, "Roberta", **ROBERTA),
    "DistilBERT": partial(classifier, "DistilBert", dim=8, n_layers=2, n_heads=2, hidden_dim=10),
    "ALBERT": partial(classifier, "Albert", embedding_size=4),
    "ELECTRA": partial(classifier, "Electra", embedding_size=4),
    "DeBERTa": partial(classifier, "DebertaV2", **DEBERTA),
    "ModernBERT": partial(classifier, "ModernBert", global_attn_every_n_layers=2, local_attention=4, cls_token_id=1,
                          sep_token_id=2),
    "GPT-2": partial(language, "GPT2", "LMHeadModel", **GPT2),
    "GPT-2, classes": partial(classifier, "GPT2", **GPT2),
    "GPT-NeoX": partial(language, "GPTNeoX", rotary_pct=0.5),
    "OPT": partial(language, "OPT", ffn_dim=10, word_embed_proj_dim=6),
    "Bloom": partial(language, "Bloom", n_layer=2, n_head=2),
    "Falcon": partial(language, "Falcon", multi_query=True, alibi=False),
    "Llama": partial(language, "Llama", **GROUPED),
    "Mistral": partial(language, "Mistral", sliding_window=3, **GROUPED),
    "Qwen 2": partial(language, "Qwen2", num_key_value_heads=2, tie_word_embeddings=True),
    "Qwen 3": partial(language, "Qwen3", **GROUPED),
    "Gemma": partial(language, "Gemma", **GROUPED),
    "Gemma 2": partial(language, "Gemma2", sliding_window=8, query_pre_attn_scalar=4, **GROUPED),
    "Phi": partial(language, "Phi", num_key_value_heads=2, partial_rotary_factor=0.5),
    "Mixtral": partial(language, "Mixtral", **EXPERTS),
    "Mamba": partial(language, "Mamba", precision=1e-6, lengths=False, state_size=3, conv_kernel=2, time_step_rank=2),
    "T5": partial(translator, "T5ForConditionalGeneration", "T5Config", feed_forward_proj="gated-gelu", **T5),
    "BART": partial(translator, "BartForConditionalGeneration", "BartConfig", **BART),
    "Marian": partial(translator, "MarianMTModel", "MarianConfig", **BART),
    "CLIP's text": text_of_clip,
    "ViT": partial(viewer, "ViT"),
    "DeiT": partial(viewer, "DeiT"),
    "ConvNext": partial(viewer, "ConvNext", depths=[1, 1], hidden_sizes=[4, 6], num_stages=2, patch_size=2),
    "Swin": partial(viewer, "Swin", **SWIN),
    "ResNet": partial(viewer, "ResNet", depths=[1, 1], hidden_sizes=[6, 8], embedding_size=4, layer_type="basic"),
    "wav2vec 2": listener,
}  # fmt: skip
