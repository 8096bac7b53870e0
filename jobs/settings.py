"""Everything a process may be told from outside, read once at its start and passed down."""

import base64
import binascii
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

PREFIX = "SCALPEL_"
LISTS = {"hosts", "secret_keys", "webhook_ports", "webhook_allowed_networks", "publish_buckets"}  # comma-separated


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{path} names the home of a user who is not there") from error


def is_master_key(text: str) -> bool:
    """Whether it is 32 bytes in base64, of either alphabet."""
    try:
        return len(base64.b64decode(text.encode().translate(bytes.maketrans(b"-_", b"+/")), validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


Folder = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseModel):
    """One process's settings. What is not given follows from `data_dir`; secrets have no default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data_dir: Folder = Field(Path("~/.local/share/scalpel"), description="Home of everything that has no place of its own.")
    database_url: str = Field(
        default_factory=lambda made: f"sqlite:///{made['data_dir'] / 'scalpel.db'}",
        description="SQLite, or `postgresql://user:password@host/name`, which several hosts can share.",
    )
    broker_url: str | None = Field(None, description="Redis or Valkey; None: `scalpel serve` starts a bundled one.")
    artifact_url: str = Field(
        default_factory=lambda made: (made["data_dir"] / "artifacts").as_uri(),
        description="Where results are kept: `file:///folder` or `s3://bucket/prefix`.",
    )
    artifact_endpoint: str | None = Field(None, description="Of an S3 store that is not Amazon's.")
    artifact_public_endpoint: str | None = Field(
        None,
        description="Address of the S3 store as users reach it: downloads are then redirected there, signed for a while. "
        "None: they go through the API.",
    )
    artifact_region: str | None = Field(None, description="Of the S3 store.")
    artifact_access_key: SecretStr | None = Field(None, description="Of the S3 store.")
    artifact_secret_key: SecretStr | None = Field(None, description="Of the S3 store.")
    store_patience_s: float = Field(
        300.0, ge=0, description="For how long a result is offered to a store that does not answer, before the attempt ends."
    )
    cache_dir: Folder = Field(default_factory=lambda made: made["data_dir"] / "cache", description="Of downloads; may go.")
    kept_bytes: int = Field(
        20 * 1024**3,
        ge=0,
        description="Disk space, in the cache of one host, for results that later jobs on the same model and texts reuse; the "
        "least recently used go first.",
    )
    scratch_dir: Folder = Field(default_factory=lambda made: made["data_dir"] / "scratch", description="Work folders of jobs.")
    model_roots: tuple[Folder, ...] = Field((), description="Folders under which users may name local models and texts.")
    hub_endpoint: str | None = Field(None, description="Of a hub that is not huggingface.co.")
    hub_token: SecretStr | None = Field(None, description="For models and data sets that the hub does not show to everybody.")
    hub_cache_dir: Folder = Field(
        default_factory=lambda made: made["cache_dir"], description="Of what hubs gave, apart for those who use other tokens."
    )
    share_hub_token: bool = Field(
        False, description="Whether `hub_token` serves every tenant that has none of its own, or the tenant `local` alone."
    )
    secret_keys: tuple[SecretStr, ...] = Field(
        (),
        description="Master keys of tenants' secrets, the newest first, comma-separated; each 32 bytes in base64, as "
        "`scalpel admin secrets new-key` prints one. `scalpel serve` makes one where there is none.",
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8321, ge=0, le=65535, description="Port that the API listens on; 0 picks a free one.")
    authentication: Literal["on", "off"] = Field("on", description="Off: no key is asked for; on this machine only.")
    hosts: tuple[str, ...] = Field(
        (), description="Names that the service answers to beyond this machine's own; comma-separated."
    )
    idempotency_hours: float = Field(24.0, gt=0, description="For how long an Idempotency-Key brings its first answer again.")
    reads_per_minute: int = Field(600, ge=0, description="Of one API key, or address where none is asked for; 0: no limit.")
    writes_per_minute: int = Field(120, ge=0, description="The same of requests that change something.")
    failed_keys_per_minute: int = Field(20, ge=0, description="Requests of one address that bring no good key; 0: no limit.")
    webhook_allow_http: bool = Field(
        False, description="Whether webhooks may have http:// addresses: within an intranet only."
    )
    webhook_ports: tuple[int, ...] = Field((443,), description="Ports that webhooks may name; comma-separated.")
    webhook_allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = Field(
        (), description="Networks (CIDR) that webhooks may reach though they are not public; comma-separated."
    )
    publish_buckets: tuple[str, ...] = Field(
        (), description="Where users may publish artifacts to: s3://BUCKET/PREFIX/ or file:///FOLDER/; comma-separated."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description="Where this host's worker computes: `cpu`, `cuda`, `cuda:N`, or `auto` (every GPU, else the processor).",
    )
    cpu_slots: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Jobs that this host's worker computes on the processor at once. None: one where it uses no GPU, "
        "else none, and jobs that ask for a processor then take a GPU's turn.",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of a compression; None leaves it to torch.")
    max_memory_bytes: int | None = Field(
        None,
        gt=0,
        description="Host memory that a worker gives to one job; more is refused. None: as the workers say.",
    )
    max_disk_bytes: int | None = Field(None, gt=0, description="The same of the work folder, the artifact included.")
    max_device_memory_bytes: int | None = Field(None, gt=0, description="The same of an accelerator's memory.")
    runner_user: str | None = Field(None, description="User whose rights runners have; needs a worker that runs as root.")
    runner_isolation: bool = Field(True, description="Take network, foreign files and privileges from runners.")
    max_attempts: int = Field(3, ge=1, description="A job that lost its worker this often has failed.")
    quota_running: int | None = Field(None, ge=0, description="Jobs of one tenant that run at once; None: no limit.")
    quota_queued: int | None = Field(None, ge=0, description="Jobs of one tenant that wait or are paused; None: no limit.")
    quota_stored_bytes: int | None = Field(None, ge=0, description="Bytes that one tenant keeps here; None: no limit.")
    quota_device_s: int | None = Field(
        None, ge=0, description="Seconds in 30 days that one tenant's jobs hold devices; None: no limit."
    )
    lease_s: float = Field(30.0, gt=0, description="A worker that has not renewed for this long has lost its job.")
    heartbeat_s: float = Field(5.0, gt=0, description="Between two renewals; cancel requests are seen this often.")
    grace_s: float = Field(5.0, ge=0, description="A runner told to stop is killed after this.")
    drain_s: float = Field(
        600.0, ge=0, description="A worker that is told to go lets its job finish the block at work, at most for this long."
    )
    flush_s: float = Field(
        60.0, ge=0, description="An attempt that ends early waits this long for finished blocks on their way to the store."
    )
    retry_delay_s: float = Field(
        5.0, ge=0, description="At most, before the second attempt after a fault; doubles with each. Drawn at random below it."
    )
    keep_solutions_days: float | None = Field(None, ge=0, description="After a job's end, for exports; None: for ever.")
    keep_artifacts_days: float | None = Field(
        None, ge=0, description="After a job's end; its report is always kept. None: for ever."
    )
    garbage_grace_s: float = Field(
        86_400.0, gt=0, description="Stored files that no row refers to are removed when they are older than this."
    )
    retention_s: float = Field(3600.0, gt=0, description="Between two looks for what need not be kept any more.")
    default_run_s: float | None = Field(
        None, gt=0, description="Seconds that a job may run whose request says nothing; None: as long as it takes."
    )
    max_run_s: float | None = Field(None, gt=0, description="The most that a request may ask for; None: no limit.")
    memory_limit_bytes: int | None = Field(
        None,
        gt=0,
        description="Anonymous memory of one runner and what it starts; more ends it. None: 90% of what this host, or the "
        "control group around the worker, has. Several workers on one host should be given their shares.",
    )
    memory_cgroup: Folder | None = Field(
        None,
        description="A folder of control groups (version 2 with memory in cgroup.subtree_control, or version 1) in which "
        "each runner gets one of its own. None: the worker's own where it may make groups in it; else memory is only sampled.",
    )
    scratch_quota_bytes: int | None = Field(
        None, gt=0, description="Disk space of one job's work folder; more ends the job. None: what the disk has."
    )
    max_dataset_bytes: int = Field(256 * 1024**2, gt=0, description="Of one uploaded data set.")
    max_model_bytes: int = Field(64 * 1024**3, gt=0, description="Of all files of one uploaded model.")
    upload_part_bytes: int = Field(
        64 * 1024**2, gt=0, description="Of one request that brings a part of a model's file; the client keeps below it."
    )
    upload_timeout_s: float = Field(1800.0, gt=0, description="For one request that brings a data set or a part.")
    upload_expires_s: float = Field(
        86_400.0,
        gt=0,
        description="A model's upload to which nothing was added for this long is removed, or what was refused.",
    )
    uploads_s: float = Field(1.0, gt=0, description="Between two looks for uploaded models that are complete.")
    relay_s: float = Field(1.0, gt=0, description="Between two looks into the outbox.")
    sweep_s: float = Field(5.0, gt=0, description="Between two sweeps for expired leases and lost rings.")
    metrics: Literal["key", "open"] = Field(
        "key", description="Who may read /metrics: whoever has a key with the scope admin, or anybody who reaches the API."
    )
    log_format: Literal["text", "json"] = Field("text", description="Of the log lines of every process.")
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="What is logged; None: info, but of `scalpel serve` at its terminal warnings alone."
    )
    otel_endpoint: str | None = Field(
        None, description="Traces go there, by OTLP over HTTP, such as http://collector:4318/v1/traces; None: there are none."
    )
    leader_s: float = Field(1.0, gt=0, description="Between two looks of `scalpel maintain` whether it is the one that works.")
    worker_lost_s: float = Field(30.0, gt=0, description="A worker that has not been heard of for this long counts as lost.")
    ring_again_s: float = Field(15.0, gt=0, description="A job queued for longer than this is rung for again.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def known_hosts(self) -> tuple[str, ...] | None:
        """The names that the service answers to; None for any, where it was told none and listens to other machines."""
        return (self.host, *self.hosts) if self.is_local or self.hosts else None

    @property
    def local_key_file(self) -> Path:
        """Where this machine's own user finds a key."""
        return self.data_dir / "local.key"

    @property
    def secret_key_file(self) -> Path:
        """Where `scalpel serve` keeps the master keys that it made, one a line, the newest first."""
        return self.data_dir / "secret.keys"

    @field_validator("secret_keys")
    @classmethod
    def _are_master_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate(keys, 1):
            if not is_master_key(key.get_secret_value()):
                raise ValueError(f"key {number} is not 32 bytes in base64; `scalpel admin secrets new-key` prints one")
        return keys

    @field_validator("database_url")
    @classmethod
    def _psycopg_3(cls, url: str) -> str:
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> "Settings":
        """Read `SCALPEL_...` variables; empty ones count as not given. `SCALPEL_MODEL_ROOTS` is split like PATH."""
        given: dict[str, Any] = {
            name: value for name in cls.model_fields if (value := mapping.get(PREFIX + name.upper(), "").strip())
        }
        if "model_roots" in given:
            given["model_roots"] = tuple(filter(None, given["model_roots"].split(os.pathsep)))
        for name in LISTS & given.keys():
            given[name] = tuple(filter(None, map(str.strip, given[name].split(","))))
        return cls(**given)
