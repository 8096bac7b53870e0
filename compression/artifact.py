"""The last steps of a pass and of an export alike: write an artifact folder, check it, let it appear.

Everything happens in a folder of another name; an artifact folder appears complete or not at all.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from compression.errors import InvalidOptions
from compression.formats.certificate import Loader, certify, unverified
from compression.formats.export import Export
from compression.formats.files import FILES
from compression.manifest import CARD_FILE, PAGE_FILE, REPORT_FILE, TELLING_FILES, FileHashes, file_hash, write_manifest
from compression.model_card import model_card
from compression.models.checkpoint import Checkpoint
from compression.page import render
from compression.plan import Plan
from compression.probe import Probe
from compression.protocol import Output, OutputFormat
from compression.report import Report, Sample, Verification
from compression.verification import sample, verify_layers
from compression.weights import Weights


def partial_folder(out: Path) -> Path:
    """Where an artifact is written before it appears.

    Raises: InvalidOptions: `out` exists already.
    """
    if out.exists():
        raise InvalidOptions("out", f"{out} exists already; nothing is overwritten", "a folder that does not exist")
    return out.with_name(f".{out.name}.partial")


def write_artifact(
    checkpoint: Checkpoint, plan: Plan, solved: Callable[[int], dict[str, Weights]], output: Output, folder: Path
) -> Export:
    """Write weights, config and tokenizer. Args: solved: block index -> solved weights by module name."""
    if folder.exists():
        shutil.rmtree(folder)  # what an interrupted export left
    folder.mkdir(parents=True)
    export = Export(checkpoint, plan, solved, output, folder)
    FILES[output.format].write(export)
    return export


def verify_artifact(
    export: Export,
    probe: Probe,
    tokenizer: PreTrainedTokenizerBase,
    scratch: Path | None,
    device: torch.device,
    memory_limit_bytes: int | None = None,
) -> tuple[Verification, Sample | None, str | None]:
    """Check the written files; the verdict, the sample, and why there is none. Args: scratch: None: without certificate."""
    verify_layers(export)
    return certified(
        export.folder, export.checkpoint, export.output.format, probe, tokenizer, scratch, device, memory_limit_bytes
    )


def certified(
    folder: Path,
    source: Checkpoint,
    output_format: OutputFormat,
    probe: Probe,
    tokenizer: PreTrainedTokenizerBase,
    scratch: Path | None,
    device: torch.device,
    memory_limit_bytes: int | None = None,
    loader: Loader | None = None,
) -> tuple[Verification, Sample | None, str | None]:
    """Load files that were read back in a fresh process; as `verify_artifact`. Args: loader: in place of the format's own."""
    if scratch is None:
        verification = unverified("none", "the files were read back; loading them was not asked for").verification
        return verification, None, "no sample: the artifact was not loaded"
    certificate = certify(
        folder,
        output_format,
        probe,
        scratch,
        str(device),
        parameters=source.parameters,
        memory_limit_bytes=memory_limit_bytes,
        loader=loader,
    )
    if probe.is_encoder:
        name = source.architecture.class_name
        return certificate.verification, None, f"no sample: {name} is an encoder and predicts no next token"
    if certificate.generated is None:
        return certificate.verification, None, f"no sample: {certificate.verification.detail}"
    greedy = sample(source.folder, tokenizer, device, probe.ids_WL[0], certificate.generated)
    return certificate.verification, greedy, None


def publish_artifact(report: Report, files: FileHashes, partial: Path, out: Path) -> None:
    """Write the report, what is drawn from it, and the manifest of all; then give the folder its name.

    Args: files: the payload, which `report.files` lists.
    """
    (partial / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    (partial / PAGE_FILE).write_text(render(report), "utf-8")
    (partial / CARD_FILE).write_text(model_card(report), "utf-8")
    write_manifest(partial, report, files | {name: file_hash(partial / name) for name in TELLING_FILES})
    partial.rename(out)
