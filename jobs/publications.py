"""A finished job's files, put into a repository of the hub or into a bucket: asked for, refused, or queued as a job."""

import re
from typing import Annotated, Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not marked so
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from sqlalchemy.orm import Session

from compression.errors import InvalidOptions
from jobs import repository
from jobs.access.hub_access import HUB_TOKEN
from jobs.access.secrets import MasterKeys, read_secret
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.errors import ArtifactsExpired, NotPublishable
from jobs.request import LabelKey, LabelValue
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job

EXAMPLES: list[Any] = [{"target": {"hub": "owner/smollm2-2of4", "private": True}}]
TENANT = "{tenant}"  # in a prefix of the setting: the tenant's id

_BUCKET = re.compile(r"(?:s3://[A-Za-z0-9.-]+|file://)(?:/[A-Za-z0-9_.=-]+)*/?")


class HubTarget(BaseModel):
    """A model repository of the hub that this server works with; made where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: Annotated[str, StringConstraints(min_length=3, max_length=200, pattern=r"^[\w.-]+/[\w.-]+$")] = Field(
        description="OWNER/NAME."
    )
    private: bool = Field(True, description="A repository that everybody can read is refused unless this is false.")
    revision: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w./-]{0,99}$")] | None = Field(
        None, description="A branch, made where there is none."
    )


class BucketTarget(BaseModel):
    """A folder in a bucket, under a prefix that the server's operator allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: Annotated[str, StringConstraints(max_length=1024)] = Field(description="s3://BUCKET/FOLDER/")


class PublicationRequest(BaseModel):
    """A publication as submitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    target: HubTarget | BucketTarget
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="Free words of the user's own, to find the job by."
    )


class Published(BaseModel):
    """Where the files are now."""

    model_config = ConfigDict(frozen=True)

    url: str
    revision: str | None = Field(description="The commit, in a repository of the hub.")
    files: int
    size_bytes: int


def find_publishable(session: Session, tenant_id: str, job_id: str) -> Job:
    """Raises: JobNotFound. NotPublishable: it has no files of a model. ArtifactsExpired: nor has it any more."""
    job = repository.get(session, tenant_id, job_id)
    if job.task not in ("compress", "export"):
        raise NotPublishable(job_id, f"its task is {job.task}, which makes no model")
    if job.state is not State.SUCCEEDED:
        raise NotPublishable(job_id, f"it is {job.state}; its files are there once it has succeeded")
    if job.artifacts_expired_at is not None:
        raise ArtifactsExpired(job_id, job.artifacts_expired_at)
    return job


def check_target(session: Session, settings: Settings, tenant_id: str, target: HubTarget | BucketTarget) -> None:
    """Raises: InvalidOptions: the target's name is malformed, there is no token for it, or its bucket is not allowed."""
    if isinstance(target, BucketTarget):
        bucket_url(settings, tenant_id, target)
        return
    try:
        validate_repo_id(target.hub)
    except HFValidationError as error:
        raise InvalidOptions("target.hub", "it is no name of a repository", "OWNER/NAME") from error
    if ".." in (target.revision or "") or (target.revision or "").endswith((".lock", "/", ".")):
        raise InvalidOptions("target.revision", "it is no name of a branch", "such as main")
    if not can_write_to_hub(publisher_settings(session, settings, tenant_id)):
        raise InvalidOptions("target.hub", "the tenant has no hub token", "after PUT /v1/secrets/hub-token")


def publisher_settings(session: Session, settings: Settings, tenant_id: str) -> Settings:
    """The settings with which a tenant writes to the hub: with its own token, for the operator's may only read for others.

    Raises: SecretUnreadable.
    """
    token = read_secret(session, MasterKeys.of(settings), tenant_id, HUB_TOKEN)
    if token is None and tenant_id == LOCAL_TENANT_ID:
        return settings
    return settings.model_copy(update={"hub_token": None if token is None else SecretStr(token)})


def can_write_to_hub(settings: Settings) -> bool:
    return settings.hub_token is not None


def allowed_buckets(settings: Settings, tenant_id: str) -> list[str]:
    """The prefixes below which a tenant may publish, each ending with a slash."""
    return [prefix.replace(TENANT, tenant_id).rstrip("/") + "/" for prefix in settings.publish_buckets]


def bucket_url(settings: Settings, tenant_id: str, target: BucketTarget) -> str:
    """The target, ending with a slash. Raises: InvalidOptions: the operator does not allow it."""
    url = target.bucket.rstrip("/") + "/"
    allowed = allowed_buckets(settings, tenant_id)
    if not _BUCKET.fullmatch(url) or {".", ".."} & set(url.split("/")):
        raise InvalidOptions("target.bucket", "it is no plain address of a folder", "s3://BUCKET/FOLDER/")
    if not any(url.startswith(prefix) for prefix in allowed):
        words = " or ".join(f"below {prefix}" for prefix in allowed)
        raise InvalidOptions("target.bucket", "this server does not publish there", words or "no bucket: ask the operator")
    return url


def submit_publication(session: Session, parent: Job, request: PublicationRequest, max_attempts: int, **fields: Any) -> Job:
    """Queue it; the caller commits. Args: fields: further ones of the row."""
    return repository.enqueue(
        session,
        tenant_id=parent.tenant_id,
        task="publish",
        parent_id=parent.id,
        model=parent.model,
        request=request.model_dump(mode="json", exclude_unset=True),
        recipe={},
        labels=dict(request.labels),
        max_attempts=max_attempts,
        **fields,
    )
