"""The benchmark of speed: what it counts is right, and every section runs and writes what it measured."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from benchmarks.speed import growth
from benchmarks.speed.chart import Bar, write_chart
from benchmarks.speed.floor import Tokens, operations
from benchmarks.speed.stages import INNER, STAGES
from benchmarks.speed.synthetic import run_pass, write_model
from compression.families import read_architecture
from tests import tiny_models

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "vocab_size": 10,
    "max_position_embeddings": 16,
}


def test_floor_is_what_one_counts_by_hand() -> None:
    """Two windows of 8 to calibrate, one of 5 to evaluate, by three blocks of q 4x4, k and v 2x4, o 4x4, gate and up 6x4, down
    4x6: 120 weights, of which down's 24 make what no Hessian sees."""
    architecture = read_architecture({"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SIZES})
    assert operations(architecture, Tokens(2, 8), Tokens(1, 5)) == {
        "forward for Hessians": 3 * (2 * 16 * 96 + 2 * 2 * 8 * 8 * 4),
        "Hessian products": 3 * 16 * (4 * 4 + 4 * 4 + 4 * 4 + 6 * 6),
        "factorisation": pytest.approx(3 * 2 / 3 * (3 * 64 + 216)),
        "sweep": 3 * (16 * (4 + 2 + 2 + 4) + 16 * (6 + 6) + 36 * 4),
        "forward of compressed": 2 * (2 * 16 * 120 + 2 * 2 * 8 * 8 * 4),
        "evaluation": 2 * (3 * (2 * 5 * 120 + 2 * 5 * 5 * 4) + 2 * 4 * 4 * 10),
    }


def test_stages_of_a_pass_add_up_and_leave_no_trace(tmp_path: Path) -> None:
    originals = [getattr(owner, name) for owner, name, _ in INNER]
    sizes = SIZES | {"hidden_size": 32, "intermediate_size": 64}
    write_model(tmp_path / "model", "llama", sizes, torch.float16, CPU)
    for recipe in ({"sparsity": 0.5}, {"bits": 4}):
        work = tmp_path / next(iter(recipe))
        passed = run_pass(tmp_path / "model", work, recipe, 2, 16, CPU, torch.float32)
        inside = set(STAGES) - {"prepare", "export", "verification", "other"}
        assert all(passed.block_s[0][stage] > 0 for stage in inside), passed.block_s[0]
        assert len(passed.block_s) == 3
        assert all(seconds >= 0 for block in passed.block_s for seconds in block.values())
        assert passed.seconds["sweep"] == pytest.approx(sum(block["sweep"] for block in passed.block_s))
    assert [getattr(owner, name) for owner, name, _ in INNER] == originals


def test_exponent_of_a_power_law_is_found() -> None:
    assert growth.exponent([1, 2, 3, 5], [7 * size**2.5 for size in (1, 2, 3, 5)]) == pytest.approx(2.5)


def test_chart_is_well_formed_and_to_scale(tmp_path: Path) -> None:
    bars = [Bar("plain <slow>", {"load": 10.0, "sweep": 30.0}), Bar("scalpel", {"load": 10.0, "sweep": 0.0})]
    write_chart(tmp_path / "chart.svg", "Where & how", bars)
    text = (tmp_path / "chart.svg").read_text()
    root = ElementTree.fromstring(text)
    drawn = [float(rect.attrib["width"]) for rect in root.findall(".//{*}rect") if len(rect)]
    assert len(drawn) == 3
    assert drawn[1] == pytest.approx(3 * drawn[0], abs=0.2) and drawn[2] == drawn[0]
    assert "prefers-color-scheme: dark" in text
    assert {"plain <slow>", "40 s", "10 s"} <= {label.text for label in root.findall(".//{*}text")}


@pytest.mark.parametrize("section", ["layers", "block", "growth"])
def test_section_runs_on_a_bare_machine(section: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.bare", section, "--quick", "--device", "cpu"]
    command += ["--json", str(tmp_path / "rows.json"), "--chart", str(tmp_path / "chart.svg")]
    document = _run(command, tmp_path)
    assert document["benchmark"] == f"speed {section}"
    metrics = {(row["case"], row["metric"]): row for row in document["rows"]}
    match section:
        case "layers":
            step = metrics["64x128", "factorisation"]
            assert step["value"] > 0 and step["reference"] > 0
            assert metrics["64x128", "sweep over floor"]["value"] > 1
            assert (tmp_path / "chart.svg").is_file()
        case "block":
            opt = {metric: row for (case, metric), row in metrics.items() if case == "OPT-175B, sparsegpt 50%"}
            whole, one, first = (opt[name]["value"] for name in ("whole model, extrapolated", "one block", "the first block"))
            assert whole == pytest.approx((first + 95 * one) / 3600 + opt["ends: embedding, head"]["value"])
            assert opt["whole model, extrapolated"]["reference"] is None  # the sizes are not those that the bar is for
            assert sum(row["value"] for name, row in opt.items() if "block, " in name) == pytest.approx(one)
        case "growth":
            assert metrics["growth with width", "exponent of factorisation"]["reference"] == pytest.approx(3)
            assert metrics["growth with samples", "exponent of sweep"]["reference"] == 0


def test_a_whole_model_beside_the_plain_baseline(tmp_path: Path) -> None:
    folder, text = tiny_models.save(tmp_path / "model", "llama-wide"), tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed",
        "end-to-end",
        "--recipe",
        "sparsegpt 50%",
        "--compute-dtype",
        "float32",
    ]
    command += ["--json", str(tmp_path / "rows.json"), "--chart", str(tmp_path / "chart.svg")]
    command += ["--model", str(folder), "--calibration", str(text), "--text", str(text)]
    command += ["--nsamples", "4", "--calibration-seqlen", "32", "--windows", "2", "--seqlen", "32"]
    rows = {(row["case"], row["metric"]): row for row in _run(command, tmp_path)["rows"]}
    for system in ("plain", "scalpel"):
        case = f"sparsegpt 50%, {system}"
        stages = [row["value"] for (at, metric), row in rows.items() if at == case and metric in STAGES]
        assert sum(stages) == pytest.approx(rows[case, "total"]["value"])
        assert all(rows[case, stage]["value"] > 0 for stage in ("Hessian products", "factorisation", "sweep", "evaluation"))
        assert rows[case, "peak host memory"]["value"] > 50
    dense = [rows[f"sparsegpt 50%, {system}", "perplexity, dense"]["value"] for system in ("plain", "scalpel")]
    assert dense[0] == pytest.approx(dense[1], rel=1e-4)
    assert rows["sparsegpt 50%", "scalpel / plain, perplexity"]["value"] == pytest.approx(1, abs=1e-3)
    faster = rows["sparsegpt 50%, plain", "total"]["value"] / rows["sparsegpt 50%, scalpel", "total"]["value"]
    assert rows["sparsegpt 50%", "plain / scalpel, time"]["value"] == pytest.approx(faster)
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag.endswith("svg")


def _run(command: list[str], folder: Path) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads((folder / "rows.json").read_text())
    return document
