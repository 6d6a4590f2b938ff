"""The benchmark of speed and memory: its problems, its clock, what follows from its figures, its page, its runners."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.fidelity.plan import OURS
from benchmarks.throughput import (
    clock,
    facts,
    figures,
    gpu,
    operations,
    ours,
    problems,
    record,
    report,
    run,
    script,
    tables,
)
from benchmarks.throughput.agreement import agreement, between
from torch import nn

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
untrained = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr(clock.time, "perf_counter", lambda: times.pop(0))
    return times


def row(*, floor: float = 2.0, **stages: float) -> record.Row:
    return {"floor": floor, "stages": {"covariances": 3.0, "eigenvectors": 4.0, **stages}, "held": 5, "peak": 9}


FACTS = {
    **{"train": 10, "queries": 2, "tokens": 7, "parameters": 40, "attributed": 30},
    **{"floor_flops": 8_000_000_000, "product_speed": 16e9},
}
MACHINE = {"processor": "P", "cores": 2, "threads": 1, "python": "3.11", "torch": "2.6", "peer": "k==1"}


def found() -> record.Found:
    rows = {OURS: record.derived({**row(), "repeats": 1}, FACTS), "kronfluence": {"failed": "no | memory"}}
    return {"gpt": {"float32": {"facts": FACTS, "machine": MACHINE, "rows": rows}}}


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        *(("mlp", 0.235), ("resnet-18", 11.2), ("gpt", 10.8), ("gpu-mlp", 0.235), ("gpu-resnet-9", 1.85)),
        *(("gpu-transformer", 85.3), ("gpu-gpt-2", 162.7)),
    ],
)
def test_networks_have_the_size_that_is_promised(name: str, millions: float):
    assert facts.sizes(problems.problem(name))["parameters"] / 1e6 == pytest.approx(millions, rel=0.01)


def test_every_problem_has_a_small_form_with_the_same_layers_left_out():
    assert list(problems.SMALL) == list(problems.PROBLEMS) == list(report.WORDS)
    for name, small in problems.SMALL.items():
        full = problems.PROBLEMS[name]
        assert (small.left_out, small.hookable, small.tokens > 1) == (full.left_out, full.hookable, full.tokens > 1)
        assert small.train % small.batch == 0


def test_norms_and_embeddings_and_layers_left_out_are_not_attributed_to():
    small = problems.SMALL["gpu-gpt-2"]
    model, *_ = small.made()
    layers = small.layers(model)
    assert layers is not None
    assert all(isinstance(model.get_submodule(layer), nn.Linear) for layer in layers)
    assert "head" not in layers
    assert len(layers) == 6
    assert small.parameters(model) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def test_problems_are_the_same_whenever_they_are_made():
    for small in problems.SMALL.values():
        (one, train, queries), (other, train_2, queries_2) = small.made(), small.made()
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()), rtol=0, atol=0)
        torch.testing.assert_close((train, queries), (train_2, queries_2), rtol=0, atol=0)
        assert [len(part) for part in (*train, *queries)] == [small.train] * 2 + [small.queries] * 2


def test_operations_of_the_floor_are_those_of_its_products():
    small = problems.SMALL["mlp"]  # forward and the gradient of weights: both layers; of inputs: the second alone
    assert facts.floor_flops(small) == small.train * 2 * (2 * 784 * 16 + 3 * 16 * 10)


def test_the_speed_of_a_product_is_positive_in_every_precision():
    assert all(facts.product_speed(CPU, precision, 8, repeats=1) > 0 for precision in script.PRECISIONS)


def test_an_inner_stage_is_not_counted_in_the_outer_one(ticks: list[float]):
    ticks += [0, 1, 3, 3, 7, 7]
    timed = clock.Clock(CPU)
    with timed.stage("outer"), timed.stage("inner"):
        pass
    assert timed.stages == {"inner": 2, "outer": 5}
    ticks += [10, 11, 11]
    with timed.stage("inner"):
        pass
    assert timed.stages["inner"] == 3


def test_operations_of_an_inner_stage_are_not_counted_in_the_outer_one():
    total, left, right = torch.zeros(2, 3, 4), torch.ones(2, 3, 5), torch.ones(2, 5, 4)
    with operations.counter() as counter:
        counting = operations.Count(CPU, counter)
        with counting.stage("outer"):
            left[0] @ right[0]
            with counting.stage("inner"):
                total[0].addmm_(left[0], right[0])
                total.baddbmm_(left, right)
        with counting.stage("inner"):
            left @ right
    one = 2 * 3 * 5 * 4
    assert counting.operations == {"outer": one, "inner": one + 2 * one + 2 * one}


def test_attention_has_as_many_operations_by_the_kernel_of_a_cpu_as_written_out():
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    counts = []
    for kernel in (torch.nn.attention.SDPBackend.MATH, torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        with operations.counter() as counter, torch.nn.attention.sdpa_kernel(kernel):
            torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@untrained
def test_operations_are_counted_by_stage_and_are_those_of_two_sides_at_least():
    small = problems.SMALL["mlp"]  # 784 → 16 → 10, biases as one more column
    counted = script.counted(ours.score, small, CPU, "float32")["operations"]
    assert set(counted) == set(tables.STAGES)
    assert counted["covariances"] > small.train * (785**2 + 16**2)  # upper triangles
    assert counted["second moments"] > small.train * 2 * (785**2 + 16**2)


def test_the_page_tells_operations_of_systems_that_were_counted():
    case = found()["gpt"]["float32"]
    assert tables.operations(case) == []
    case["rows"][OURS]["operations"] = {"covariances": 16_000_000_000, "scores": 8_000_000_000}
    assert tables.operations(case) == [[OURS, "3.00", "0.00", "2.00", "0.00", "1.00", "50%"]]
    assert "| operations | × floor |" in report.section("gpt", "float32", case)


def test_tf32_is_as_it_was_afterwards():
    before = torch.backends.cuda.matmul.allow_tf32
    with script.tf32(not before):
        assert torch.backends.cuda.matmul.allow_tf32 is not before
    assert torch.backends.cuda.matmul.allow_tf32 is before


@untrained
@pytest.mark.parametrize("name", list(problems.SMALL))
def test_ours_runs_every_problem_in_stages(name: str):
    small = problems.SMALL[name]
    row, scores = script.measured(ours.score, small, CPU, "float32")
    assert set(row["stages"]) == set(tables.STAGES)
    assert all(seconds > 0 for seconds in row["stages"].values())
    assert row["peak"] >= row["held"]
    assert row["planned"] > 0
    model, train, queries = small.made()
    torch.testing.assert_close(scores, ours.influence_on(small, model, train).attribute(queries).scores)


@untrained
def test_bfloat16_is_a_setting_of_products_that_is_put_back():
    small = problems.SMALL["mlp"]
    scores, exact = (script.measured(ours.score, small, CPU, name)[1] for name in ("bfloat16", "float32"))
    assert scores.dtype == torch.float32
    assert bool(scores.isfinite().all())
    assert agreement(scores, exact)["spearman"] > 0.9
    assert torch.get_float32_matmul_precision() == "highest"


def test_agreement_of_scores_with_their_multiples_and_opposites():
    scores = torch.tensor([[1.0, 2.0, 4.0], [-1.0, 0.0, 3.0]])
    assert agreement(2 * scores, scores) == pytest.approx({"pearson": 1, "spearman": 1, "distance": 1})
    assert agreement(-scores, scores) == pytest.approx({"pearson": -1, "spearman": -1, "distance": 2})
    assert agreement(scores**3, scores)["spearman"] == pytest.approx(1)


def test_agreement_is_of_two_systems_and_of_each_with_its_float32():
    scores = {("float32", "a"): torch.eye(3), ("float32", "b"): torch.eye(3), ("tf32", "b"): torch.eye(3)}
    assert set(between(scores, "float32", ["a", "b"])) == {"agreement"}
    assert set(between(scores, "tf32", ["a", "b"])) == {"beside_float32"}
    assert set(between(scores, "tf32", ["a", "b"])["beside_float32"]) == {"b"}
    assert between({}, "float32", ["a", "b"]) == {}


def test_medians_over_runs_unless_one_failed():
    runs = [row(covariances=seconds) for seconds in (1.0, 7.0, 2.0)]
    assert record.middle(runs) == {**row(covariances=2.0), "repeats": 3}
    assert record.middle([*runs, {"failed": "no memory"}]) == {"failed": "no memory"}


def test_what_follows_from_a_row():
    found = record.derived(row(), FACTS)
    assert found["total"] == 7
    assert found["without_eigenvectors"] == 3
    assert (found["times_floor"], found["times_floor_without_eigenvectors"]) == (3.5, 1.5)
    assert (found["tokens_per_second"], found["beyond"]) == (10, 4)
    assert (found["floor_speed"], found["floor_share_of_product"]) == (4e9, 0.25)
    assert record.derived({"failed": "why"}, FACTS) == {"failed": "why"}


def test_systems_take_turns_and_one_that_failed_is_not_run_again():
    ran = []

    def work(system: str, module: str, *given: object) -> record.Row:
        ran.append(system)
        return {"failed": "no"} if system == "kronfluence" else row()

    turns = list(run.in_turn(work, ["ours", "kronfluence"], 3, ["--small"], Path("folder")))
    assert ran == [OURS, "kronfluence", OURS, OURS]
    assert [script for script, _ in turns] == ["ours", "kronfluence", "ours", "ours"]


def test_peers_are_not_asked_for_what_they_cannot_hook():
    assert run.systems("gpu-lstm", ["ours", "kronfluence"]) == ["ours"]
    assert run.systems("gpt", ["ours", "kronfluence"]) == ["ours", "kronfluence"]
    assert run.is_there(found(), "gpt", "float32", ["ours", "kronfluence"])
    assert not run.is_there(found(), "gpt", "bfloat16", ["ours"])


@pytest.mark.parametrize("given", [["--small"], ["--train", "8"], ["--queries=2"]])
def test_measurements_of_a_smaller_size_are_kept_out_of_the_results(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["run", *given])
    with pytest.raises(SystemExit):
        run.main()
    assert "give --results FILE" in capsys.readouterr().err


def test_the_page_has_ratios_before_seconds_and_names_what_failed(tmp_path: Path):
    results = tmp_path / "results.json"
    record.save(found(), results)
    record.save({"cases": {"gpu-lstm": found()["gpt"]}}, tmp_path / record.GPU)
    report.write(results)
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert page == report.markdown(report.everything(results), drawn=True)
    assert "| upweight | 3.5 | 1.5 | 0.0 | 1.5 | 2.0 | 0.0 | 0.0 | 7.0 | 10 | 0 |" in page
    assert "10 training examples of 7 tokens × 2 queries; 30 of 40 parameters. Floor: 8 GFLOP in 2 s, 25%" in page
    assert "- kronfluence: no | memory" in page
    assert "- bergson" in page
    assert report.WORDS["gpu-lstm"] in page
    assert 0 < (tmp_path / figures.NAME).stat().st_size < 200_000


def test_without_results_there_is_a_page_without_a_figure(tmp_path: Path):
    report.write(tmp_path / "results.json")
    assert [file.name for file in tmp_path.iterdir()] == ["RESULTS.md"]


def test_the_page_is_what_the_record_says():
    if not record.FILE.exists():
        pytest.skip("nothing has been measured yet")
    page = record.FILE.with_name("RESULTS.md").read_text(encoding="utf-8")
    assert page == report.markdown(report.everything(), drawn=True)


def test_a_run_of_one_problem_writes_results_and_page(tmp_path: Path):
    results = tmp_path / "results.json"
    given = ["gpu-lstm", "--small", "--repeats", "1", "--threads", "1", "--results", str(results)]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.throughput.run", *given], cwd=ROOT, check=True, capture_output=True
    )
    case = json.loads(results.read_text())["gpu-lstm"]["float32"]
    assert case["rows"][OURS]["times_floor"] > 0
    assert case["facts"]["train"] == problems.SMALL["gpu-lstm"].train
    assert (tmp_path / "RESULTS.md").exists()


def on_cpu(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--small", *given])
    monkeypatch.setattr(gpu, "peer", lambda: "skipped, it can't be imported: none here")
    gpu.main()


@pytest.mark.exhaustive
def test_the_script_for_a_gpu_runs_whole_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    on_cpu(monkeypatch, "--results", str(tmp_path / record.GPU))
    written: dict[str, Any] = json.loads((tmp_path / record.GPU).read_text())
    assert set(written["float64"]) == set(written["cases"]) == set(problems.GPU)
    for precisions in written["cases"].values():
        assert [OURS in case["rows"] and case["rows"][OURS]["total"] > 0 for case in precisions.values()] == [True] * 2
        assert precisions["tf32"]["beside_float32"][OURS]["distance"] < 1e-3  # no TF32 on a CPU
    said = capsys.readouterr().out
    assert "kronfluence: skipped, it can't be imported" in said
    assert "Memory in MiB" in said


def test_what_the_time_does_not_suffice_for_is_skipped_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / record.GPU
    given = ("--problems", "gpu-mlp", "--systems", OURS, "--results", str(file))
    on_cpu(monkeypatch, *given)
    before = json.loads(file.read_text())["cases"]
    with pytest.raises(SystemExit, match=r"gpu-mlp \(skipped, the time is up\)"):
        on_cpu(monkeypatch, *given, "--minutes", "0")
    assert json.loads(file.read_text())["cases"] == before


def test_scores_far_from_float64_end_the_script_with_their_distance(monkeypatch: pytest.MonkeyPatch):
    apart = {"pearson": 0.1, "spearman": 0.2, "distance": 0.5}
    monkeypatch.setattr(gpu, "beside_float64", lambda *_: apart)
    with pytest.raises(SystemExit, match=r"scores on cpu differ .* gpu-mlp \(5.0e-01\)"):
        on_cpu(monkeypatch, "--problems", "gpu-mlp")


def test_without_a_gpu_the_script_says_what_runs_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--device cpu --small"):
        gpu.ready("cuda")
