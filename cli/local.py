"""What commands that work right here share: model and texts brought here, and the process made ready for torch."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.progress import Display

if TYPE_CHECKING:
    from compression.models.source import ModelSource
    from jobs.settings import Settings


@dataclass(frozen=True)
class Local:
    """Args: texts: where sources lie, by `corpora.text_key`."""

    settings: "Settings"
    source: "ModelSource"
    texts: dict[str, Path]


def fetched(model: str, calibration: str | None, evaluation: tuple[str, ...], data_dir: Path, shown: Display) -> Local:
    """Fetch what is not here yet, telling so. Args: calibration, evaluation: sources of texts."""
    from compression.corpora import text_uses
    from jobs.settings import Settings
    from jobs.sourcing.fetch import fetch_model, fetch_texts

    settings = Settings.from_mapping({**os.environ, "SCALPEL_DATA_DIR": str(data_dir)})

    def note(message: str) -> None:
        shown.show("note", {"message": message})

    shown.show("stage", {"stage": "fetching"})
    source = fetch_model(model, settings, note, any_path=True)
    texts = fetch_texts(text_uses(calibration, evaluation), settings, note, any_path=True)
    # Read when torch is loaded. A thread that spins at a barrier takes the core from the one it waits for, which makes a busy
    # machine many times slower; the service's runner is told the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return Local(settings, source, dict(texts))
