"""`from_transformers`: data in every form people have it, padding, labels, tokens; against plain autograd."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

import upweight as uw
from languages import CLASSES, TEXTS, bert, built, flat, gpt2, llama, next_tokens, rows, tokenizer
from upweight.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")

LABELS = [0, 1, 2, 0, 1, 2, 0, 0]


def tokens(text: str) -> Tensor:
    return torch.tensor(tokenizer()(text)["input_ids"])[None]


def by_hand(model: nn.Module, texts: list[str] = TEXTS) -> list[Tensor]:
    """The sum over each text's tokens after the first, one text at a time."""
    found = []
    for text in texts:
        ids = tokens(text)
        logits = model(input_ids=ids).logits[0, :-1]
        found.append(F.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    return found


def close(actual: Tensor, expected: Tensor) -> None:
    assert float((actual - expected).norm()) <= 1e-4 * float(expected.norm())


def collated(examples: list[Any]) -> Any:
    return next_tokens()([{key: row[key] for key in ("input_ids", "attention_mask")} for row in examples])


def plain() -> list[dict[str, Any]]:
    return [dict(row) for row in rows()]


def halves() -> ConcatDataset[Any]:
    first, second = random_split(plain(), [3, 5], torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    return ConcatDataset([first, second])


FORMS = {
    "rows": rows,
    "rows in torch's format": lambda: rows().with_format("torch", columns=["input_ids", "attention_mask"]),
    "a list of rows": plain,
    "texts": lambda: list(TEXTS),
    "a column of texts": lambda: rows().remove_columns(["input_ids", "attention_mask"]),
    "a loader": lambda: DataLoader(rows(), batch_size=3, collate_fn=collated),
    "arrays": lambda: dict(tokenizer()(TEXTS, padding=True, return_tensors="pt")),
    "a subset": lambda: Subset(rows(), range(8)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_has_the_token_mean_of_all_texts(form: str) -> None:
    model = llama()
    objective = uw.from_transformers(model, FORMS[form](), tokenizer())
    values = by_hand(model)
    total = sum(len(tokens(text)[0]) - 1 for text in TEXTS)
    close(objective.losses(), torch.stack(values).detach() * len(TEXTS) / total)
    sum(values).div(total).backward()  # type: ignore[union-attr]
    close(objective.gradient(), flat(value.grad for value in model.parameters()))


def test_parts_of_datasets_joined_in_another_order() -> None:
    model, joined = llama(), halves()
    objective = uw.from_transformers(model, joined, tokenizer())
    texts = [joined[i]["text"] for i in range(len(joined))]
    assert [objective.columns["text"][i] for i in range(8)] == texts
    close(objective.losses(), torch.stack(by_hand(model, texts)).detach() * 8 / 20)


def test_each_example_has_its_gradient_whatever_the_batch_and_the_side_of_padding() -> None:
    model = llama()
    parameters = list(model.parameters())
    expected = [flat(torch.autograd.grad(value, parameters)) * 8 / 20 for value in by_hand(model)]
    for options in ({}, {"batch_size": 1}, {"batch_size": 3}):
        objective = uw.from_transformers(model, rows(), tokenizer(), **options)
        close(torch.cat([block for _, block in objective.example_gradients()]), torch.stack(expected))
    left = uw.from_transformers(bert("Token"), tagged(), tokenizer(padding_side="left"), l2=0.0)
    assert int(left.data.take([1])["attention_mask"][0, 0]) == 0


def tagged() -> Any:
    found = rows()
    return found.add_column("labels", [[-100 if i == 2 else i % CLASSES for i in ids] for ids in found["input_ids"]])


def test_tags_count_one_by_one_and_smoothing_and_class_weights_are_torchs() -> None:
    model, dataset = bert("Token"), tagged()
    weight = torch.tensor([1.0, 2.0, 0.5])
    objective = uw.from_transformers(model, dataset, tokenizer(), label_smoothing=0.1, class_weights=weight)
    logits, labels = [], []
    for row in dataset:
        ids = torch.tensor(row["input_ids"])[None]
        logits.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0])
        labels.append(torch.tensor(row["labels"]))
    mean = F.cross_entropy(torch.cat(logits), torch.cat(labels), weight=weight, label_smoothing=0.1)
    assert objective.risk() == pytest.approx(float(mean), rel=1e-5)
    mean.backward()
    close(objective.gradient(), flat(value.grad for value in model.parameters()))


def test_a_loss_by_token_is_summed() -> None:
    def by_token(model: nn.Module, batch: Any) -> Tensor:
        labels = batch["labels"]
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")

    model = llama()
    objective = uw.from_transformers(model, rows(), tokenizer(), loss=by_token)
    close(objective.losses(), torch.stack(by_hand(model)).detach())


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")  # of the table of relative positions
def test_translations_are_given_their_decoder_s_inputs() -> None:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 10, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    model = built("T5ForConditionalGeneration", "T5Config", decoder_start_token_id=0, **sizes)
    found = rows()
    dataset = found.add_column("labels", [ids[::-1] for ids in found["input_ids"]])
    objective = uw.from_transformers(model, dataset, tokenizer())
    values, total = [], 0
    for row in dataset:
        ids, labels = (torch.tensor(row[key])[None] for key in ("input_ids", "labels"))
        logits = model(input_ids=ids, labels=labels).logits[0]
        values.append(F.cross_entropy(logits, labels[0], reduction="sum"))
        total += labels.numel()
    close(objective.losses(), torch.stack(values).detach() * 8 / total)


def test_several_classes_are_named_by_the_configuration_and_texts_are_decoded() -> None:
    names = {0: "bad", 1: "fair", 2: "good"}
    dataset = rows(label=LABELS).remove_columns(["text", "number"])
    objective = uw.from_transformers(bert(id2label=names), dataset, tokenizer())
    assert objective.class_names == ("bad", "fair", "good")
    assert [objective.columns["text"][i] for i in range(8)] == TEXTS
    attribution = uw.Influence(objective, uw.inverse.Identity()).attribute([{"text": "a b", "label": 1}])
    assert list(attribution.top(2).to_pandas(objective.columns).columns)[-1] == "text"


def test_compiled_and_parallel_models_are_taken() -> None:
    model = bert()
    expected = uw.from_transformers(model, rows(label=LABELS), tokenizer()).gradient()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        close(uw.from_transformers(wrapped, rows(label=LABELS), tokenizer()).gradient(), expected)


def test_notes_say_what_was_read() -> None:
    loader = DataLoader(rows(), batch_size=3, shuffle=True, drop_last=True, collate_fn=collated)
    optimizer = torch.optim.SGD(llama().parameters(), lr=0.1)
    objective = uw.from_transformers(llama(), loader, tokenizer(), l2=0.1)
    said = " ".join(objective.notes)
    for words in ("20 of 8 examples", "l2 given", "order of examples (RandomSampler)", "drop_last", "text, number"):
        assert words in said
    model = llama()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    coupled = uw.from_transformers(model, rows(), tokenizer(), optimizer=optimizer)
    assert any("weight decay 0.01 of SGD is the penalty" in note for note in coupled.notes)
    assert torch.equal(coupled.l2, torch.full_like(coupled.l2, 0.01))


def nothing() -> Any:
    return rows().add_column("labels", [[-100] * len(ids) for ids in rows()["input_ids"]])


REFUSED = {
    "another tokenizer": (
        lambda: uw.from_transformers(llama(vocab_size=9), rows(), tokenizer()),
        "tokenizer: it has 14 tokens, and the model's embedding 9",
    ),
    "an unknown token": (
        lambda: uw.from_transformers(llama(vocab_size=9), [{"input_ids": [3, 4]}, {"input_ids": [3, 10]}]),
        r"data: example 1 has the token 10, and the model's embedding knows 0 … 8",
    ),
    "empty texts": (
        lambda: uw.from_transformers(llama(), ["a b", "", "c d", " "], tokenizer()),
        r"data: 2 of 4 texts are empty after tokenisation, the first at positions \[1, 3\]",
    ),
    "no labels": (
        lambda: uw.from_transformers(llama(), nothing(), tokenizer()),
        "data: no label counts: all of 8 examples' are -100",
    ),
    "a query with an unknown token": (
        lambda: uw.Influence(
            uw.from_transformers(llama(), rows(), tokenizer(), l2=0.1), uw.inverse.Identity()
        ).attribute([{"input_ids": [3, 4]}, {"input_ids": [3, 500]}]),
        r"queries: query 1 has what the model doesn't know: inputs go from 0 to 500, and Embedding .* knows 0 … 13",
    ),
    "a query without tokens": (
        lambda: uw.Influence(uw.from_transformers(llama(), rows(), tokenizer(), l2=0.1)).attribute([""]),
        "no target but -100, which the loss ignores, as texts of one token or none have, which have no next one",
    ),
    "a text that is no list": (
        lambda: uw.from_transformers(llama(), rows(), tokenizer()).queries("a b"),
        r"queries: got the text 'a b'; give arrays or a map-style dataset, or of texts a list, \['a b'\]",
    ),
    "a row that is no list": (
        lambda: uw.from_transformers(llama(), rows(), tokenizer()).queries(rows()[0]),
        r"queries: got one row, with the text 'a b c d'; give a list of rows, \[row\]",
    ),
    "random masks": (
        lambda: uw.from_transformers(
            built("BertForMaskedLM", "BertConfig"), rows(), collate=type("Masks", (), {"mlm": True})()
        ),
        "collate: Masks.mlm=True. draws other masks at each reading",
    ),
    "no padding": (
        lambda: uw.from_transformers(gpt2_without_padding(), [{"input_ids": [3]}, {"input_ids": [3, 4]}]),
        "data: sequences are of unequal length, and what to pad them with isn't known; give the tokenizer",
    ),
    "a stream": (
        lambda: uw.from_transformers(llama(), iter(rows()), tokenizer()),
        "dataset: give rows by name",
    ),
    "no task": (
        lambda: uw.from_transformers(nn.Linear(2, 2), rows(), tokenizer()),
        "task: what Linear was trained for isn't told by its name; give task=, one of causal-lm",
    ),
    "a strange task": (
        lambda: uw.from_transformers(llama(), rows(), tokenizer(), task="poetry"),
        "task: give one of causal-lm, .*; got 'poetry'",
    ),
    "no model": (lambda: uw.from_transformers("llama", rows(), tokenizer()), "model: give the trained torch.nn.Module"),
}


def gpt2_without_padding() -> Any:
    model = gpt2()
    model.config.pad_token_id = None
    return model


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", REFUSED)
def test_what_can_t_be_read_is_refused_by_name(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        call()


def test_examples_of_which_no_label_counts_are_said() -> None:
    labels = [ids if i else [-100] * len(ids) for i, ids in enumerate(rows()["input_ids"])]
    objective = uw.from_transformers(llama(), rows().add_column("labels", labels), tokenizer())
    assert any("no label of 1 examples counts, the first at 0" in note for note in objective.notes)
    assert float(objective.losses()[0]) == 0


def test_scores_in_a_store_keep_the_texts_and_objectives_are_pickled(tmp_path: Path) -> None:
    objective = pickle.loads(pickle.dumps(uw.from_transformers(bert(), rows(label=LABELS), tokenizer())))
    influence = uw.Influence(objective, uw.inverse.Identity())
    queries = [{"text": "a b", "label": 1}]
    stored = influence.attribute(queries, store=tmp_path / "scores", columns=objective.columns)
    assert stored.columns["text"][0] == TEXTS[0]
    assert torch.allclose(stored.scores[:], influence.attribute(queries).scores)
    table = stored.top(2).to_pandas(objective.columns)
    assert table["text"].tolist() == [TEXTS[place] for place in table["position"]]


def test_distributed_models_are_taken(tmp_path: Path) -> None:
    model = bert()
    expected = uw.from_transformers(model, rows(label=LABELS), tokenizer()).gradient()
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        objective = uw.from_transformers(wrapped, rows(label=LABELS), tokenizer())
    finally:
        torch.distributed.destroy_process_group()
    close(objective.gradient(), expected)
