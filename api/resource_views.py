"""What the API answers about data sets and models."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.sourcing.demo import DemoModelInfo
from jobs.tables import Dataset, UploadedModel
from jobs.uploads.model_uploads import Progress, UploadState
from jobs.uploads.token_sample import TokenSample


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class DatasetView(_View):
    """A text that a user has brought."""

    id: str
    name: str
    kind: str = Field(description="`text`, `documents`, `chat` or `labelled`.")
    source: str = Field(description="What a request gives as `calibration.source`, or in `evaluation`.")
    sha256: str
    size_bytes: int
    documents: int
    characters: int = Field(description="Of the texts; of conversations, of what is said in them.")
    created_at: datetime
    used_at: datetime | None = Field(description="When a job that reads it was last submitted.")


class TokensView(_View):
    """How many tokens a data set has for a model, told from its first MiB."""

    model: str
    characters: int = Field(description="That were looked at.")
    tokens: int = Field(description="In them, without special tokens.")
    estimated_tokens: int = Field(description="Of the whole data set, by its characters; exact where `is_whole`.")
    is_whole: bool


class ModelView(_View):
    """A model that this server knows: a demo model, or one that the caller's tenant has uploaded."""

    name: str = Field(description="What a request gives as `model`.")
    kind: Literal["demo", "upload"]
    title: str
    parameters: int | None = None
    licence: str | None = None
    note: str | None = None
    id: str | None = Field(None, description="Of an upload.")
    state: UploadState = UploadState.READY
    problem: str | None = Field(None, description="Why it was refused.")
    digest: str | None = Field(None, description="Of all files; a job's report calls it the model's revision.")
    size_bytes: int | None = None
    created_at: datetime | None = None
    used_at: datetime | None = Field(None, description="When a job that reads it was last submitted.")


class ModelFileView(_View):
    """One file of an upload."""

    path: str
    size_bytes: int
    sha256: str
    received_bytes: int = Field(description="Where its next part begins.")
    is_verified: bool


class ModelUploadView(ModelView):
    """An uploaded model with its files."""

    files: tuple[ModelFileView, ...]
    part_bytes: int = Field(description="At most so many in one request.")


def dataset_view(dataset: Dataset) -> DatasetView:
    names = DatasetView.model_fields.keys() - {"source"}
    return DatasetView(source=f"dataset:{dataset.id}", **{name: getattr(dataset, name) for name in names})


def tokens_view(model: str, sample: TokenSample) -> TokensView:
    return TokensView(
        model=model,
        characters=sample.characters,
        tokens=sample.tokens,
        estimated_tokens=sample.of_all,
        is_whole=sample.is_whole,
    )


def demo_view(demo: DemoModelInfo) -> ModelView:
    return ModelView(
        name=demo.name, kind="demo", title=demo.title, parameters=demo.parameters, licence=demo.licence, note=demo.note
    )


def model_view(model: UploadedModel) -> ModelView:
    return ModelView(
        name=f"upload:{model.id}",
        kind="upload",
        title=model.name,
        id=model.id,
        state=UploadState(model.state),
        problem=model.problem,
        digest=model.digest,
        size_bytes=model.size_bytes,
        created_at=model.created_at,
        used_at=model.used_at,
    )


def upload_view(model: UploadedModel, progress: list[Progress], part_bytes: int) -> ModelUploadView:
    return ModelUploadView(
        **model_view(model).model_dump(), files=tuple(map(model_file_view, progress)), part_bytes=part_bytes
    )


def model_file_view(progress: Progress) -> ModelFileView:
    file = progress.file
    return ModelFileView(
        path=file.path,
        size_bytes=file.size_bytes,
        sha256=file.promised_sha256,
        received_bytes=progress.received_bytes,
        is_verified=file.is_verified,
    )
