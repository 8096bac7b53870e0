"""What is foretold of a pass, term by term, and against passes that ran."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compression import estimate
from compression.budgets import MAX_HESSIANS_BYTES, SPILL_BYTES
from compression.compress import compress
from compression.estimate import Sizing, memory_on_cpu, memory_on_device, scratch_bytes
from compression.estimated import artifact_bytes, sizing_of
from compression.families import read_architecture
from compression.models.headers import DTYPE_BYTES, TensorInfo, read_folder
from compression.plan import plan
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.recipe import parse_recipe, resolve
from compression.report import Report
from compression.text_load import TextLoad
from tests import tiny_models

LLAMA_7B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096, "vocab_size": 32000,
}  # fmt: skip
GB = 10**9


def tensors_of(config: dict[str, Any], dtype: str = "BF16") -> dict[str, TensorInfo]:
    """A checkpoint's headers, as the config has it."""
    architecture = read_architecture(config)
    size = DTYPE_BYTES[dtype]
    d, vocabulary = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, d), "lm_head.weight": (vocabulary, d)}
    for k in range(architecture.blocks):
        shapes |= {f"{architecture.module_name(k, matrix)}.weight": matrix.shape for matrix in architecture.block(k)}
    return {
        name: TensorInfo(name, Path("model.safetensors"), dtype, shape, size * shape[0] * shape[1])
        for name, shape in shapes.items()
        if len(shape) == 2
    }


def sizes_of(
    recipe: dict[str, Any],
    *,
    nsamples: int = 128,
    seqlen: int = 2048,
    dtype: str = "BF16",
    embeddings: Any = "keep",
    config: dict[str, Any] = LLAMA_7B,
) -> Sizing:
    architecture = read_architecture(config)
    return sizing_of(
        plan(resolve(parse_recipe(recipe)), architecture),
        architecture,
        tensors_of(config, dtype),
        Calibration(nsamples=nsamples, seqlen=seqlen),
        Evaluation(windows=20, seqlen=seqlen),
        Output(embeddings=embeddings),
    )


class TestTerms:
    """By hand, on the shapes of Llama-2-7B: D = 4096, C up to 11008, V = 32000."""

    def test_streams_hold_every_window_in_float32(self) -> None:
        window = 2048 * 4096 * 4
        assert sizes_of({"bits": 4}, nsamples=100).streams() == [100 * window, 20 * window, 20 * window]

    def test_asymmetric_calibration_keeps_a_dense_stream_and_the_drift(self) -> None:
        plain, asymmetric = sizes_of({"bits": 4}), sizes_of({"bits": 4, "asymmetric_calibration": 0.5})
        assert asymmetric.streams() == [plain.streams()[0], *plain.streams()]
        assert asymmetric.hessians() == 2 * plain.hessians()

    def test_one_hessian_for_each_input_of_a_block(self) -> None:
        assert sizes_of({"bits": 4}).hessians() == 4 * (3 * 4096**2 + 11008**2)

    def test_true_sequential_holds_those_of_one_stage(self) -> None:
        assert sizes_of({"bits": 4, "true_sequential": True}).hessians() == 4 * 11008**2

    def test_hessians_of_very_many_experts_are_summed_in_portions(self) -> None:
        config = LLAMA_7B | {
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 64,
            "num_key_value_heads": 8, "num_hidden_layers": 1,
        }  # fmt: skip
        assert sizes_of({"sparsity": 0.5}, config=config).hessians() == MAX_HESSIANS_BYTES

    def test_factor_is_that_of_the_widest_input(self) -> None:
        assert sizes_of({"sparsity": 0.5}).factor() == 4 * 11008**2, "in the memory of one copy"
        assert sizes_of({"method": "rtn", "bits": 4}).factor() == 4 * 11008**2, "one triangle is mirrored"
        exact = sizes_of({"method": "obc", "sparsity": 0.5, "force": True})
        assert exact.factor() == (5 + 3) * 8 * 11008**2, "in float64, with the inverses of a batch"

    def test_matrices_that_are_solved_at_once_are_held_at_once(self) -> None:
        factor, matrix = 4 * 4096**2, 4 * 7 * 11008 * 4096
        assert sizes_of({"sparsity": 0.5}).solve() == factor + 2 * matrix, "gate and up"
        assert sizes_of({"method": "spqr", "bits": 3}).solve() == 4 * 11008**2 + matrix, "down"

    def test_methods_that_stack_are_those_that_say_so(self) -> None:
        from compression import methods, registry  # noqa: F401  registers the solvers

        stackable = {options.model_fields["method"].default for options, m in registry._METHODS.items() if m.is_stackable}
        assert stackable == set(estimate.STACKABLE)

    def test_rounded_ends_are_there_twice(self) -> None:
        ends = 4 * 2 * 32000 * 4096
        kept = memory_on_cpu(sizes_of({"bits": 4})).parts["embedding and head"]
        rounded = memory_on_cpu(sizes_of({"bits": 4}, embeddings="int8")).parts["embedding and head"]
        assert (kept, rounded) == (ends, 2 * ends)

    def test_float32_source_costs_no_memory_where_it_is_computed_with_in_its_file(self) -> None:
        mapped = memory_on_cpu(sizes_of({"bits": 4}, dtype="F32"))
        assert mapped.parts["embedding and head"] == mapped.parts["block"] == 0
        assert memory_on_device(sizes_of({"bits": 4}, dtype="F32")).parts["block"] > 0

    def test_stream_beyond_the_budget_goes_to_disk(self) -> None:
        small, large = sizes_of({"bits": 4}, nsamples=100), sizes_of({"bits": 4}, nsamples=200)
        spilled = large.streams()[0]
        assert small.streams()[0] < SPILL_BYTES < spilled
        assert memory_on_cpu(large).parts["streams"] == 2 * large.streams()[1]
        assert scratch_bytes(large, 0) - scratch_bytes(small, 0) == spilled

    def test_solutions_of_a_7b_model_take_a_byte_a_code(self) -> None:
        weights = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
        kept = estimate.kept_solution_bytes(sizes_of({"bits": 4}))
        assert weights < kept < 1.06 * weights
        assert estimate.kept_solution_bytes(sizes_of({"sparsity": 0.5})) == 2 * weights, "bfloat16"

    def test_text_that_is_encoded_whole_can_be_the_peak(self) -> None:
        sizes = sizes_of({"bits": 4}, config=LLAMA_7B | {"hidden_size": 256, "intermediate_size": 512}, nsamples=4, seqlen=64)
        text = 50_000_000
        found = memory_on_cpu(replace(sizes, load=replace(sizes.load, longest_text_bytes=text)))
        assert found.host_peak_bytes == estimate.RUNTIME_BYTES + estimate.ENCODING_BYTES * text

    def test_device_holds_the_work_and_the_host_the_streams(self) -> None:
        found = memory_on_device(sizes_of({"bits": 4}, nsamples=100))
        assert "streams" not in found.parts
        assert found.device_peak_bytes is not None and found.device_peak_bytes >= 4 * sizes_of({"bits": 4}).parameters
        assert 4 * GB < found.host_peak_bytes < 12 * GB


def test_more_windows_longer_windows_and_a_larger_model_never_need_less() -> None:
    needs = [
        memory_on_cpu(sizes_of({"bits": 4}, nsamples=n, seqlen=length)).host_peak_bytes
        for n, length in ((1, 128), (1, 512), (8, 512), (64, 512), (64, 1024))
    ]
    assert needs == sorted(needs)


def test_load_of_a_request() -> None:
    assert sizes_of({"bits": 4}, nsamples=3, seqlen=64).load == TextLoad(3, 64, 20, 64, 11_328_664)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimate")
    tiny_models.save(folder / "model", "llama-wide")
    (folder / "text.txt").write_text(tiny_models.text())
    return folder


def run(folder: Path, out: str, recipe: dict[str, Any], format: OutputFormat) -> Report:
    text = str(folder / "text.txt")
    return compress(
        folder / "model",
        recipe,
        folder / out,
        calibration=Calibration(source=text, nsamples=4, seqlen=32),
        evaluation=Evaluation(sources=(text,), windows=2, seqlen=32),
        output=Output(format=format),
        certificate=False,
        expected_s={"another device": 1.0},
    )


@pytest.mark.parametrize(
    ("recipe", "format"),
    [
        ({"sparsity": 0.5}, "dense"),
        ({"bits": 4}, "gptq"),
        ({"sparsity": 0.5}, "sparse-packed"),
        ({"sparsity": 0.5, "bits": 4}, "sparse-packed"),
        ({"method": "spqr", "bits": 3}, "spqr"),
        ({"bits": 4}, "gguf"),
        ({"bits": 8}, "gguf"),
    ],
    ids=["dense", "gptq", "sparse-packed", "sparse-packed codes", "spqr", "gguf 4 bits", "gguf 8 bits"],
)
def test_bytes_are_near_those_of_the_written_weights(
    folder: Path, one_thread: None, recipe: dict[str, Any], format: OutputFormat
) -> None:
    report = run(folder, f"{format}-{'-'.join(map(str, recipe.items()))}", recipe, format)
    assert report.estimated is not None and report.estimated.artifact_bytes is not None
    headers = 3 * 9000  # of a tiny model's files, which say more than they hold
    is_exact = format in ("dense", "gptq")
    assert abs(report.estimated.artifact_bytes - report.sizes.artifact_bytes) <= (0 if is_exact else headers)


def test_report_holds_the_estimate_beside_what_was_measured(folder: Path, one_thread: None) -> None:
    report = run(folder, "beside", {"bits": 4}, "dense")
    found = report.estimated
    assert found is not None
    assert found.work.keys() <= report.seconds.keys(), "every unit has its seconds"
    assert (found.method, found.seconds, found.device_peak_bytes) == ("optq", None, None)
    architecture = read_architecture(json.loads((folder / "model" / "config.json").read_text()))
    planned = plan(resolve(parse_recipe({"bits": 4})), architecture)
    tensors = read_folder(folder / "model")
    assert found.artifact_bytes == artifact_bytes(Output(), planned, architecture, tensors)[0]
    assert found.host_peak_bytes > estimate.RUNTIME_BYTES
