"""`trainer_recorder`: a plain loop over the order and the rates that it wrote down is the training itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import upweight as uw
from languages import TEXTS, bert, flat, llama, next_tokens, rows, trainer
from upweight.errors import InputError
from upweight.store import Memory

pytestmark = [
    pytest.mark.filterwarnings("ignore:θ is not at an optimum"),
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
N, EVERY = 16, 3
SETTINGS = {
    "max_steps": -1, "num_train_epochs": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 3,
    "optim": "adamw_torch", "weight_decay": 0.1, "learning_rate": 0.01, "lr_scheduler_type": "linear", "seed": 3,
    "warmup_steps": 2, "max_grad_norm": 0.5, "logging_strategy": "no",
}  # fmt: skip


class Killed(Exception):
    pass


class Killing(transformers.TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def dataset() -> Any:
    return rows(TEXTS * 2)


def recorded(place: Any, model: Any = None, **options: Any) -> Any:
    """A Trainer that has a recorder, and was not trained."""
    made = trainer(llama() if model is None else model, dataset(), data_collator=next_tokens(), **SETTINGS | options)
    made.remove_callback(transformers.PrinterCallback)
    made.add_callback(uw.trainer_recorder(place, every=EVERY))
    return made


def repeated(model: nn.Module, run: uw.Recording, place: Any) -> None:
    """The training once more, step by step, from the order and the rates that were recorded; recorded by hand."""
    named = dict(model.named_parameters())
    free = [name for name in named if "norm" in name or name.endswith("bias")]
    groups = [
        {"params": [value for name, value in named.items() if name not in free], "weight_decay": 0.1},
        {"params": [named[name] for name in free], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    model.train()
    with uw.Recorder(place, model, optimizer, every=EVERY) as recorder:
        for chosen, rate in zip(run.order, run.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            optimizer.zero_grad()
            batch = next_tokens()(
                [{key: dataset()[int(i)][key] for key in ("input_ids", "attention_mask")} for i in chosen]
            )
            labels = batch.pop("labels")[:, 1:]
            logits = model(**batch).logits[:, :-1]
            nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            recorder.step(chosen)


def same(found: uw.Recording, expected: uw.Recording, tolerance: float = 0.0) -> None:
    """Two recordings of the same training, to rounding."""
    assert found.steps == expected.steps
    assert found.rates.tolist() == expected.rates.tolist()
    assert [step.tolist() for step in found.order] == [step.tolist() for step in expected.order]
    metrics = zip(found.metrics or [], expected.metrics or [], strict=True)
    for one, other in [*zip(found.checkpoints, expected.checkpoints, strict=True), *metrics]:
        assert one.keys() == other.keys()
        for name, value in one.items():
            close = 0.01 if value.dtype == torch.bfloat16 and tolerance else tolerance
            torch.testing.assert_close(value, other[name], rtol=close, atol=tolerance)


def test_a_plain_loop_recorded_by_hand_is_the_same() -> None:
    place, by_hand = Memory(), Memory()
    made = recorded(place)
    begun = copy.deepcopy(made.model)
    made.train()
    run = uw.Recording.open(place)
    assert run.steps == [3, 6, 9]  # three epochs of 16 rows by 2, three at a time, the last of an epoch by two
    assert [len(step) for step in run.order] == [6, 6, 4] * 3
    for epoch in range(3):
        met = [int(i) for step in run.order[3 * epoch : 3 * epoch + 3] for i in step]
        assert sorted(met) == list(range(N))
    assert [step.tolist() for step in run.order[:3]] != [step.tolist() for step in run.order[3:6]]
    assert run.rates.tolist() == pytest.approx([0, 0.005, *(0.01 * left / 7 for left in range(7, 0, -1))])
    repeated(begun, run, by_hand)
    same(run, uw.Recording.open(by_hand), 1e-5)
    assert torch.equal(
        flat(made.model.parameters()), flat(run.checkpoints[-1][n] for n, _ in made.model.named_parameters())
    )


def test_a_training_that_was_killed_goes_on_with_its_recording(tmp_path: Path) -> None:
    whole, parts = Memory(), Memory()
    recorded(whole).train()
    saving = {"save_strategy": "steps", "save_steps": 4}  # within the second epoch
    made = recorded(parts, **saving)
    made.add_callback(Killing(8))
    with pytest.raises(Killed):
        made.train()
    assert uw.Recording.open(parts).steps == [3, 6]
    folder = Path(made.args.output_dir) / "checkpoint-4"
    again = recorded(parts, **saving, ignore_data_skip=False)
    again.train(resume_from_checkpoint=str(folder))
    same(uw.Recording.open(parts), uw.Recording.open(whole))
    with pytest.raises(InputError, match=r"holds a recording of 9 steps, and this training begins at none"):
        recorded(parts).train()
    early = Memory()
    made = recorded(early)
    made.add_callback(Killing(5))
    with pytest.raises(Killed):
        made.train()
    with pytest.raises(InputError, match=r"holds steps 1 to 3, .* goes on after step 4: what is between wasn't"):
        recorded(early).train(resume_from_checkpoint=str(folder))


@pytest.mark.parametrize(
    "options", [{"bf16": True}, {"dataloader_num_workers": 1}, {"train_sampling_strategy": "group_by_length"}]
)
def test_however_it_is_trained_the_order_is_what_was_trained_on(options: dict[str, Any]) -> None:
    place, by_hand = Memory(), Memory()
    made = recorded(place, **options)
    begun = copy.deepcopy(made.model)
    made.train()
    run = uw.Recording.open(place)
    assert sorted(int(i) for step in run.order[:3] for i in step) == list(range(N))
    assert all(value.dtype == torch.float32 for value in run.checkpoints[0].values())
    if "bf16" not in options:
        repeated(begun, run, by_hand)
        same(run, uw.Recording.open(by_hand), 1e-5)


def test_scores_through_the_training_in_one_line() -> None:
    place = Memory()
    made = recorded(place)
    made.train()
    objective, run = uw.from_trainer(made), uw.Recording.open(place)
    assert run.metrics is not None
    rates, each = run.example_rates(N), []
    for state, metric in zip(run.checkpoints, run.metrics, strict=True):
        each.append(uw.TracIn(objective, [state], 1.0, metrics=[metric]).attribute(["a b c"]).scores)
    found = uw.TracIn.from_recording(objective, run).attribute(["a b c"])
    torch.testing.assert_close(found.scores, sum(r * s for r, s in zip(run.learning_rates(N), each, strict=True)))
    met = uw.TracIn.from_recording(objective, run, by_example=True).attribute(["a b c"], train=[3, 5])
    torch.testing.assert_close(met.scores, sum(rates[k, [3, 5]].float() * s[:, [3, 5]] for k, s in enumerate(each)))
    # Every example was met as often, though not at the same rates.
    torch.testing.assert_close(rates.sum(1) / N, torch.tensor(run.learning_rates(N), dtype=torch.float64))


def test_adapters_are_kept_often_and_their_base_once(tmp_path: Path) -> None:
    import peft

    model = peft.get_peft_model(llama(hidden_size=32), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    made = recorded(tmp_path / "run", model, weight_decay=0.0)
    made.train()
    run = uw.Recording.open(tmp_path / "run")
    assert len(run) == 3
    state = model.state_dict()
    for found in run.checkpoints:
        assert found.keys() == state.keys()
        frozen = [name for name in state if "lora" not in name]
        assert all(torch.equal(found[name], state[name]) for name in frozen)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "run" / "blocks").iterdir()}
    assert [name for name in sizes if name.startswith("once")] == ["once-0000000003"]
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert all(size < 6 * trained + 10_000 for name, size in sizes.items() if not name.startswith("once"))
    objective = uw.from_trainer(made)
    assert objective.p == trained
    assert uw.TracIn.from_recording(objective, run).attribute(["a b c"]).scores.shape == (1, N)


def test_the_best_model_that_is_loaded_at_the_end_is_not_the_last_of_the_training() -> None:
    place = Memory()
    options = {
        "load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 2,
        "learning_rate": 0.5, "lr_scheduler_type": "constant", "warmup_steps": 0, "gradient_accumulation_steps": 4,
    }  # fmt: skip
    made = recorded(place, **options, eval_dataset=dataset())
    last: dict[str, Tensor] = {}

    class Last(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            last.update({name: value.clone() for name, value in given["model"].state_dict().items()})

    made.add_callback(Last())
    made.train()
    run = uw.Recording.open(place)
    assert run.steps == [2, 3, 4]
    assert all(torch.equal(value, last[name]) for name, value in run.checkpoints[-1].items())


def test_what_cant_be_recorded_is_refused_before_a_step() -> None:
    made = recorded(Memory(), optim="adafactor")
    with pytest.raises(InputError, match="only Adam, AdamW, NAdam"):
        made.train()
    sharded = recorded(Memory())
    sharded.args.fsdp = ["full_shard"]
    with pytest.raises(InputError, match="args: FSDP and DeepSpeed shard"):
        uw.trainer_recorder(Memory()).on_train_begin(sharded.args, sharded.state, sharded.control)
    assert not made.state.global_step


def test_an_order_that_a_loader_does_not_tell_is_refused_where_scores_need_it() -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([{key: row[key] for key in ("input_ids", "attention_mask")} for row in dataset()])

    place = Memory()
    made = trainer(llama(), Stream(), data_collator=next_tokens(), **SETTINGS | {"max_steps": 4})
    made.remove_callback(transformers.PrinterCallback)
    made.add_callback(uw.trainer_recorder(place, every=2))
    made.train()
    run = uw.Recording.open(place)
    assert run.steps == [2, 4]
    assert len(run.learning_rates(N)) == 2
    words = r"order: the examples of step 1 weren't recorded \(the data are an IterableDataset, .*recorder.step\(pos"
    with pytest.raises(InputError, match=words):
        _ = run.order
    with pytest.raises(InputError, match=words):
        run.example_rates(N)


def test_a_checkpoint_of_a_trainer_without_its_optimiser_is_refused_where_scores_need_it(tmp_path: Path) -> None:
    made = recorded(Memory(), bert(), save_strategy="steps", save_steps=9, save_only_model=True)
    made.train_dataset = rows(TEXTS * 2, label=[0, 1] * 8)
    made.data_collator = transformers.DataCollatorWithPadding(made.processing_class)
    made.train()
    assert not (Path(made.args.output_dir) / "checkpoint-9" / "optimizer.pt").exists()
    fresh = trainer(made.model, made.train_dataset, **SETTINGS)
    with pytest.raises(
        InputError, match=r"no optimiser that says what it did; call this after trainer.train\(\), or lo"
    ):
        uw.from_trainer(fresh)
    fresh.create_optimizer()
    with pytest.raises(InputError, match=r"it has no state of .*optimizer\.pt"):
        uw.step_metric(fresh.optimizer, made.model)
    with pytest.raises(InputError, match=r"it has no state of .*optimizer\.pt"):
        uw.inverse.StepMetric(uw.step_metric(fresh.optimizer.state_dict(), made.model))


def test_a_step_that_gradient_scaling_left_out_has_no_rate() -> None:
    made = uw.trainer_recorder(Memory())
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    given: dict[str, Any] = {"args": None, "state": None, "control": None, "optimizer": optimizer}
    for is_left_out in (False, True):
        optimizer.step_was_skipped = is_left_out  # type: ignore[attr-defined]
        made.on_optimizer_step(**given)
        assert made._rates == [0.0 if is_left_out else 0.5]
