"""Reports of every kind, made up, for what only reads them."""

import hashlib
from typing import Any

from compression.evaluation_report import EvaluationReport, EvaluationSample, TaskResult, Tasks, TextEvaluation
from compression.goals.goal import Goal, SearchOptions
from compression.goals.result import CurvePoint, DatabaseUse, SearchResult, Stitched
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe, resolve
from compression.report import (
    AccuracyResult,
    ArtifactFile,
    Check,
    Coverage,
    Environment,
    EvaluationResult,
    LayerResult,
    Memory,
    MemoryPoint,
    ModelInfo,
    OutputErrorResult,
    Perplexity,
    Report,
    Sample,
    SizePart,
    Sizes,
    TextSet,
    Verdict,
    Verification,
    WorstToken,
)
from compression.structure.result import BlockLeft, Speed, StructureResult
from compression.structure.timing import LatencyTable, Measured

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MODULES = (*ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
HOSTILE = (
    "<script>alert(1)</script>\"'&\n---\nlicense: evil\n| a |</title></style><img src=x onerror=alert(2)>\u202e\x1b[2J\x00"
)
HASH = hashlib.sha256(b"").hexdigest()


def text(source: str = "sotu", **changes: Any) -> TextSet:
    facts = {"source": source, "protocol": "sotu", "windows": 20, "windows_in_text": 141, "seqlen": 2048}
    return TextSet.model_validate({**facts, "tokens": 40960, "digest": HASH, **changes})


def layer(block: int, module: str, error: float | None = 0.01, **changes: Any) -> LayerResult:
    facts: dict[str, Any] = {"sparsity": 0.5, "bits_per_weight": 32.0, "tokens": 1024, "seconds": 0.1, "method": "sparsegpt"}
    name = f"model.layers.{block}.{module}"
    return LayerResult(**{**facts, "name": name, "block": block, "shape": (64, 32), "relative_error": error, **changes})


def quality(source: str = "sotu", dense: float = 18.25, compressed: float = 21.5, **changes: Any) -> EvaluationResult:
    suffered = WorstToken(
        window=0, position=7, context="the state of the", token=" union", dense_loss=0.5, compressed_loss=9.25, kl=3.0,
        dense_choice=" union", compressed_choice=" onion",
    )  # fmt: skip
    return EvaluationResult(
        text=changes.pop("text", text(source)),
        dense=Perplexity(value=dense, standard_error=0.75),
        compressed=Perplexity(value=compressed, standard_error=0.875),
        ratio=compressed / dense,
        log_ratio=0.16,
        log_ratio_standard_error=0.01,
        kl=0.1875,
        kl_standard_error=0.0125,
        kl_p99=1.625,
        top1_agreement=0.8125,
        top1_agreement_standard_error=0.0031,
        worst_tokens=changes.pop("worst_tokens", (suffered,)),
    )


def verdict(*, passed: bool) -> Verdict:
    check = Check(
        text="sotu", figure="kl", value=0.1875, standard_error=0.0125, limit=0.25 if passed else 0.1, is_minimum=False,
        passed=passed,
    )  # fmt: skip
    return Verdict(outcome="accepted" if passed else "regressed", checks=(check,))


ENVIRONMENT = Environment(
    device="cpu", device_name="A processor", threads=1, instruction_set="AVX2", compute_dtype="float32", platform="Linux",
    versions={"torch": "2.13.0"},
)  # fmt: skip
MEMORY = Memory(
    host_peak_bytes=1_420_000_000,
    over_time=tuple(MemoryPoint(seconds=k * 0.5, host_bytes=10**9 + k * 10**7, device_bytes=k * 10**6) for k in range(43)),
)
MODEL = ModelInfo(
    source="demo:smollm2-135m", revision="0.1.2", family="llama", architecture="LlamaForCausalLM", blocks=3,
    parameters=134_515_008, dtype="float32", digest=HASH,
)  # fmt: skip


def report(recipe: dict[str, Any] | None = None, *, blocks: int = 3, **changes: Any) -> Report:
    """A pruned model's report. Args: changes: fields of the report, in place of these."""
    layers = tuple(layer(block, module, 0.001 * (1 + block + len(module))) for block in range(blocks) for module in MODULES)
    facts: dict[str, Any] = {
        "scalpel_version": "0.1.0",
        "created_at": "2026-11-26T04:00:00+00:00",
        "model": MODEL,
        "recipe": resolve(Recipe.model_validate(recipe or {"sparsity": 0.5})),
        "calibration": Calibration(),
        "calibration_text": text(windows=128, windows_in_text=None),
        "evaluation": Evaluation(),
        "results": (quality(),),
        "acceptance": Acceptance(),
        "verdict": verdict(passed=True),
        "sample": Sample(prompt="The state of", dense=" the Union", compressed=" the onion"),
        "output": Output(),
        "verification": Verification(loader="transformers 5.23.0", verdict="ok", detail="loads in a fresh process"),
        "layers": layers,
        "coverage": tuple(Coverage(name=found.name, status="solved") for found in layers),
        "sizes": Sizes(
            source_bytes=538_000_000, artifact_bytes=269_000_000, targeted_parameters=106_168_320, zero_parameters=53_084_160,
            bits_per_targeted_weight=16.5, note="The artifact takes 50.0% of its source's bytes.",
            parts=(
                SizePart(name="solved matrices", source_bytes=425_000_000, artifact_bytes=156_000_000),
                SizePart(name="embedding", source_bytes=113_000_000, artifact_bytes=113_000_000),
            ),
        ),
        "seconds": {"preparing": 1.5, "solving": 90.25, "verifying": 12.0},
        "memory": MEMORY,
        "environment": ENVIRONMENT,
        "files": (ArtifactFile(name="model.safetensors", size_bytes=269_000_000, sha256=HASH),),
        "payload_digest": HASH,
    }  # fmt: skip
    return Report.model_validate({**facts, **changes})


def quantised() -> Report:
    layers = tuple(
        layer(b, m, 0.002, method="optq", bits=4, group_size=128, bits_per_weight=4.156) for b in range(3) for m in MODULES
    )
    return report({"bits": 4, "group_size": 128, "symmetric": True}, layers=layers, output=Output(format="compressed-tensors"))


def joint() -> Report:
    return report({"pattern": "2:4", "bits": 4, "group_size": 32}, output=Output(format="sparse-packed"))


def encoder() -> Report:
    error = OutputErrorResult(
        text=text(), relative_error=0.09375, relative_error_standard_error=0.0089, cosine=0.9671875, cosine_standard_error=None
    )
    accuracy = AccuracyResult(
        source="reviews.jsonl", texts=321, digest=HASH, dense=0.9125, dense_standard_error=0.016, compressed=0.8875,
        compressed_standard_error=0.018, loss=0.025, loss_standard_error=0.007, agreement=0.951, agreement_standard_error=None,
    )  # fmt: skip
    return report(
        results=(),
        output_errors=(error,),
        accuracy=accuracy,
        model=MODEL.model_copy(update={"architecture": "BertForSequenceClassification", "family": "bert"}),
        verdict=None,
        verdict_note="no verdict: no limit is set on what was measured (acceptance.max_output_error)",
        sample=None,
        sample_note="no sample: it is an encoder",
    )


def structure(device_name: str = "A processor") -> StructureResult:
    """Of three blocks, the last of which has lost its attention."""
    measured = Measured(
        device="cpu", device_name=device_name, dtype="float32", batch=8, seqlen=128, threads=2, phase="prefill", model=HASH,
        versions={"torch": "2.13.0"},
    )  # fmt: skip
    table = LatencyTable(
        environment=measured, blocks=3, attention_s={3: 2e-3, 0: 0.0}, ffn_s={64: 4e-3, 32: 2.5e-3, 0: 0.0}, fixed_s=1e-3
    )
    search = SearchResult(
        options=SearchOptions(), evaluations=14, candidates=20, loss=0.4375, plain_loss=0.46875, uniform_level="2 and 32",
        uniform_loss=0.59375, curve=(CurvePoint(evaluation=1, loss=0.46875), CurvePoint(evaluation=9, loss=0.4375)),
    )  # fmt: skip
    return StructureResult(
        asked=Goal.model_validate({"metric": "latency", "factor": 1.5}),
        speed=Speed(requested=1.5, predicted=1.5625, measured=1.484375, dense_s=0.019, shrunk_s=0.0128, runs=21),
        table=table,
        dense=BlockLeft(attention=3, ffn=64, attention_error=0.0, ffn_error=0.0),
        blocks=tuple(
            BlockLeft(attention=heads, ffn=columns, attention_error=1.0 - heads / 3, ffn_error=0.015625)
            for heads, columns in ((3, 64), (3, 32), (0, 32))
        ),
        parameters=134_515_008,
        parameters_left=96_950_016,
        is_plain=False,
        search=search,
        database=DatabaseUse(key=HASH[:32], levels=33, size_bytes=10**8, seconds=97.5, was_there=False),
        is_stitched=False,
        stitched=Stitched(text="sotu", perplexity_ratio=2.625),
        seconds={"database": 97.5},
    )


def faster() -> Report:
    """Of a model that was cut to be faster."""
    return report(layers=(), coverage=()).model_copy(update={"recipe": None, "structure": structure()})


def unevaluated() -> Report:
    return report(
        results=(),
        calibration_text=None,
        verdict=None,
        verdict_note="no verdict: nothing was evaluated",
        sample=None,
        verification=Verification(loader="none", verdict="not verified", detail="loading them was not asked for"),
        memory=Memory(host_peak_bytes=10**9),
        files=(),
    )


def failing() -> Report:
    """Everything that can go wrong without ending the job."""
    layers = []
    for found in report(blocks=12).layers:
        fallbacks: tuple[str, ...] = ()
        error = found.relative_error
        if found.block == 4:
            fallbacks, error = ("damp 0.01 -> 1.0", "float64", "sparsegpt -> magnitude: H is not positive definite"), 0.75
        elif found.block == 7:
            error = None
        if found.block != 9:
            layers.append(found.model_copy(update={"relative_error": error, "fallbacks": fallbacks}))
    coverage = [
        Coverage(name=f.name, status="fallback" if f.fallbacks else "solved", reason="; ".join(f.fallbacks) or None)
        for f in layers
    ]
    coverage += [
        Coverage(name=f"model.layers.9.{module}", status="skipped", reason="left alone by the recipe (skip_blocks)")
        for module in MODULES
    ]
    return report(
        {"sparsity": 0.5, "skip_blocks": [9]},
        layers=tuple(layers),
        coverage=tuple(coverage),
        results=(quality("sotu", 18.25, 4711.5), quality("/home/somebody/texts/a private text of mine.txt", 9.5, 11.25)),
        verdict=verdict(passed=False),
        verification=Verification(loader="transformers 5.23.0", verdict="not verified", detail="the loader ran out of memory"),
        restarts=("the model is another one",),
        resumed_blocks=2,
        notes=("exported from job 01A",),
        memory=MEMORY.model_copy(update={"mode": "low-memory"}),
    )


def hostile() -> Report:
    """Every text that a model, a user or a host brings is an attack."""
    found = report(
        model=MODEL.model_copy(update={"source": HOSTILE, "notes": (HOSTILE,), "revision": HOSTILE, "architecture": HOSTILE}),
        results=(quality(HOSTILE, text=text(HOSTILE, protocol=HOSTILE)),),
        sample=Sample(prompt=HOSTILE, dense=HOSTILE, compressed=HOSTILE),
        coverage=(Coverage(name=f"model.layers.0.{HOSTILE}", status="skipped", reason=HOSTILE),),
        layers=(layer(0, HOSTILE, 0.5, fallbacks=(HOSTILE,)), layer(1, HOSTILE, 0.25)),
        files=(ArtifactFile(name=HOSTILE, size_bytes=1, sha256=HOSTILE),),
        seconds={HOSTILE: 1.0},
        notes=(HOSTILE,),
        restarts=(HOSTILE,),
        provenance={HOSTILE: HOSTILE},
        environment=ENVIRONMENT.model_copy(update={"device_name": HOSTILE, "versions": {HOSTILE: HOSTILE}}),
        verification=Verification(loader=HOSTILE, verdict="not verified", detail=HOSTILE),
    )
    token = found.results[0].worst_tokens[0].model_copy(update={"context": HOSTILE, "token": HOSTILE})
    return found.model_copy(update={"results": (quality(HOSTILE, worst_tokens=(token,)),)})


def hostile_faster() -> Report:
    """The same of a model that was cut."""
    return hostile().model_copy(update={"recipe": None, "structure": structure(HOSTILE)})


KINDS = {
    "pruned": report,
    "quantised": quantised,
    "joint": joint,
    "encoder": encoder,
    "faster": faster,
    "unevaluated": unevaluated,
    "failing": failing,
    "hostile": hostile,
    "hostile, faster": hostile_faster,
}


def evaluation(*, reference: bool = True, **changes: Any) -> EvaluationReport:
    facts: dict[str, Any] = {
        "scalpel_version": "0.1.0",
        "created_at": "2026-11-26T04:00:00+00:00",
        "model": MODEL,
        "reference": MODEL.model_copy(update={"source": "dense/model"}) if reference else None,
        "evaluation": Evaluation(),
        "results": (
            TextEvaluation(
                text=text(),
                perplexity=Perplexity(value=21.5, standard_error=0.875),
                comparison=quality() if reference else None,
            ),
        ),
        "acceptance": Acceptance(),
        "verdict": verdict(passed=True) if reference else None,
        "tasks": Tasks(
            version="0.4.9",
            results=(TaskResult(task="arc_easy", metric="acc", value=0.625, standard_error=0.01, samples=570),),
        ),
        "sample": EvaluationSample(
            prompt="The state of", evaluated=" the onion", reference=" the Union" if reference else None
        ),
        "seconds": {"evaluating": 20.0},
        "memory": MEMORY,
        "environment": ENVIRONMENT,
    }
    return EvaluationReport.model_validate({**facts, **changes})
