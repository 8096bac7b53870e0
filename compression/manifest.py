"""scalpel.json: what is in an artifact folder, and everything needed to make it again."""

import hashlib
import json
from pathlib import Path
from typing import Any

from compression.report import ArtifactFile, Report

MANIFEST_FILE = "scalpel.json"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
CARD_FILE = "README.md"
TELLING_FILES = (REPORT_FILE, PAGE_FILE, CARD_FILE)  # of the payload, and no part of it
MANIFEST_VERSION = 1


FileHashes = dict[str, dict[str, Any]]  # name -> {"sha256", "size_bytes"}


def file_hashes(folder: Path) -> FileHashes:
    """SHA-256 and size of every file but the manifest itself, by name."""
    return {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE}


def file_hash(path: Path) -> dict[str, Any]:
    """SHA-256 and size of one file."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": sha256, "size_bytes": path.stat().st_size}


def artifact_files(files: FileHashes) -> tuple[ArtifactFile, ...]:
    """The files as the report lists them."""
    return tuple(ArtifactFile(name=name, **entry) for name, entry in files.items())


def payload_digest(files: FileHashes) -> str:
    """One digest over weights, config and tokenizer: equal digests mean bit-identical models."""
    lines = (f"{name}:{entry['sha256']}\n" for name, entry in sorted(files.items()) if name not in TELLING_FILES)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_manifest(folder: Path, report: Report, files: FileHashes) -> None:
    """Write scalpel.json. Args: files: of the folder, the report and what is drawn from it among them."""
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "format": report.output.format,
        "payload_digest": report.payload_digest,
        "source": {"name": report.model.source, "revision": report.model.revision, "digest": report.model.digest},
        "recipe": report.recipe and report.recipe.model_dump(mode="json"),
        "goal": (found := report.goal or report.structure) and found.asked.model_dump(mode="json"),
        "calibration": report.calibration.model_dump(mode="json")
        | {"digest": report.calibration_text.digest if report.calibration_text else None},
        "versions": report.environment.versions,
        "device": report.environment.device,
        "seconds": report.seconds,
        "files": files,
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
