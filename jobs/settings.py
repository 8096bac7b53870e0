"""Everything a process may be told from outside, read once at its start and passed down."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

PREFIX = "SCALPEL_"


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


Folder = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseModel):
    """One process's settings. What is not given follows from `data_dir`; secrets have no default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data_dir: Folder = Field(Path("~/.local/share/scalpel"), description="Home of everything that has no place of its own.")
    database_url: str = Field(default_factory=lambda made: f"sqlite:///{made['data_dir'] / 'scalpel.db'}")
    broker_url: str | None = Field(None, description="Redis or Valkey; None: `scalpel serve` starts a bundled one.")
    artifact_url: str = Field(default_factory=lambda made: (made["data_dir"] / "artifacts").as_uri())
    artifact_endpoint: str | None = Field(None, description="Of an S3 store that is not Amazon's.")
    artifact_region: str | None = None
    artifact_access_key: SecretStr | None = None
    artifact_secret_key: SecretStr | None = None
    cache_dir: Folder = Field(default_factory=lambda made: made["data_dir"] / "cache", description="Of downloads; may go.")
    scratch_dir: Folder = Field(default_factory=lambda made: made["data_dir"] / "scratch", description="Work folders of jobs.")
    model_roots: tuple[Folder, ...] = Field((), description="Folders under which users may name local models and texts.")
    hub_endpoint: str | None = None
    hub_token: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = Field(8321, ge=0, le=65535)
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`: where this host's worker computes.")
    threads: int | None = Field(None, ge=1, description="CPU threads of a compression; None leaves it to torch.")
    max_attempts: int = Field(3, ge=1)
    lease_s: float = Field(30.0, gt=0, description="A worker that has not renewed for this long has lost its job.")
    heartbeat_s: float = Field(5.0, gt=0, description="Between two renewals; cancel requests are seen this often.")
    grace_s: float = Field(5.0, ge=0, description="A runner told to stop is killed after this.")
    retry_delay_s: float = Field(5.0, ge=0, description="Before the second attempt after a fault; doubles with each.")
    relay_s: float = Field(1.0, gt=0, description="Between two looks into the outbox.")
    sweep_s: float = Field(5.0, gt=0, description="Between two sweeps for expired leases and lost rings.")
    ring_again_s: float = Field(15.0, gt=0, description="A job queued for longer than this is rung for again.")

    @field_validator("database_url")
    @classmethod
    def _psycopg_3(cls, url: str) -> str:
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> "Settings":
        """Read `SCALPEL_...` variables; empty ones count as not given, and `SCALPEL_MODEL_ROOTS` is split like PATH."""
        given: dict[str, Any] = {
            name: value for name in cls.model_fields if (value := mapping.get(PREFIX + name.upper(), "").strip())
        }
        if "model_roots" in given:
            given["model_roots"] = tuple(filter(None, given["model_roots"].split(os.pathsep)))
        return cls(**given)
