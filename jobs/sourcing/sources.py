"""What a user may name as a model or a text, parsed and refused before anything is opened. No network, no torch.

model:  demo:NAME | OWNER/NAME[@REVISION] | upload:ID | /absolute/path
text:   sotu | wikitext2 | c4 | ptb | hf:OWNER/NAME[/CONFIG][:SPLIT] | dataset:ID | /absolute/path of .txt, .raw, .jsonl or
        .safetensors
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not marked so

from compression.corpora import CORPORA
from jobs.errors import SourceError
from jobs.sourcing.demo import DEMOS

PACKAGED_TEXT = "sotu"
TEXT_SUFFIXES = (".txt", ".raw", ".jsonl", ".safetensors")
DEFAULT_SPLIT = "train"

_REVISION = re.compile(r"\w[\w.+/-]{0,254}", re.ASCII)
_PART = re.compile(r"\w[\w.+-]{0,95}", re.ASCII)  # a configuration or a split of a data set
_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")  # a ULID


@dataclass(frozen=True)
class DemoModel:
    name: str


@dataclass(frozen=True)
class HubModel:
    repo_id: str
    revision: str | None


@dataclass(frozen=True)
class LocalModel:
    path: Path


@dataclass(frozen=True)
class UploadedModelSource:
    """A model that the job's tenant has brought."""

    model_id: str


@dataclass(frozen=True)
class PackagedText:
    name: str


@dataclass(frozen=True)
class CorpusText:
    """A benchmark of the field, by name."""

    name: str


@dataclass(frozen=True)
class HubText:
    dataset: str
    config: str | None
    split: str

    @property
    def stem(self) -> str:
        """What its file in the cache is called, without the commit."""
        return "--".join(filter(None, [*self.dataset.split("/"), self.config, self.split]))


@dataclass(frozen=True)
class LocalText:
    path: Path


@dataclass(frozen=True)
class UploadedDataset:
    """A data set that the job's tenant has brought."""

    dataset_id: str


ModelName = DemoModel | HubModel | LocalModel | UploadedModelSource
TextName = PackagedText | CorpusText | HubText | LocalText | UploadedDataset


def parse_model_source(text: str) -> ModelName:
    """Read the `model` of a request.

    Raises: SourceError: it is none of the forms above, or an unknown demo model.
    """
    _check_text(text)
    if text.startswith("/"):
        return LocalModel(Path(text))
    scheme, colon, name = text.partition(":")
    if colon and scheme == "demo":
        return DemoModel(_known_demo(text, name))
    if colon and scheme == "upload":
        return UploadedModelSource(_id(text, name))
    if colon:
        raise SourceError(text, f"the scheme {scheme!r} is unknown; {_MODEL_FORMS}")
    repo_id, at, revision = text.partition("@")
    if at and not _is_revision(revision):
        raise SourceError(text, "what follows @ is no branch, tag or commit")
    return HubModel(_repo_id(text, repo_id, _MODEL_FORMS), revision or None)


def pinned(source: str, revision: str | None) -> str:
    """A model's source, held at the revision that was read: a branch of the hub may have moved on since."""
    model = parse_model_source(source)
    return f"{model.repo_id}@{revision}" if isinstance(model, HubModel) and revision else source


def parse_text_source(text: str) -> TextName:
    """Read a source of calibration or evaluation text.

    Raises: SourceError: it is none of the forms above.
    """
    _check_text(text)
    if text == PACKAGED_TEXT:
        return PackagedText(text)
    if text in CORPORA:
        return CorpusText(text)
    if text.startswith("/"):
        return LocalText(_text_path(text))
    scheme, colon, name = text.partition(":")
    if scheme == "dataset":
        return UploadedDataset(_id(text, name))
    if not colon or scheme != "hf":
        raise SourceError(text, f"this is no text source; {_TEXT_FORMS}")
    return _hub_text(text, name)


def resolve_local(path: Path, roots: tuple[Path, ...] | None) -> Path:
    """Find the real path behind every symbolic link, and refuse one outside the allowed folders.

    Args:
        roots: folders under which a user may name files; None where the caller is the machine's own user.
    Raises: SourceError: outside the roots (whether or not it exists), or not there.
    """
    if roots == ():
        raise SourceError(str(path), "this server opens no local paths; its operator names folders in SCALPEL_MODEL_ROOTS")
    try:
        real = path.resolve()
        is_allowed = roots is None or any(real.is_relative_to(root.resolve()) for root in roots)
        is_there = is_allowed and real.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise SourceError(str(path), "the path cannot be resolved") from error
    if not is_allowed:
        raise SourceError(str(path), "the path is outside the folders that SCALPEL_MODEL_ROOTS allows")
    if not is_there:
        raise SourceError(str(path), "there is no such file or folder")
    return real


_MODEL_FORMS = "a model is demo:NAME, OWNER/NAME[@REVISION] on the hub, upload:ID, or an absolute path"
_TEXT_FORMS = (
    f"a text is {PACKAGED_TEXT}, {', '.join(CORPORA)}, hf:OWNER/NAME[/CONFIG][:SPLIT], dataset:ID, or an absolute path"
)


def _check_text(text: str) -> None:
    if not text.strip():
        raise SourceError(text, "the source is empty")
    if any(unicodedata.category(sign).startswith("C") for sign in text):
        raise SourceError(ascii(text), "the source holds control characters")
    if "://" in text:
        raise SourceError(text, "addresses are not fetched; name a hub repository as OWNER/NAME")
    if ".." in re.split(r"[/:@\\]", text):
        raise SourceError(text, "'..' is not allowed in a source")
    if text.startswith(("./", "~")):
        raise SourceError(text, "relative paths are not allowed; give an absolute path")


def _known_demo(text: str, name: str) -> str:
    if name not in DEMOS:
        raise SourceError(text, f"there is no such demo model; known: {', '.join(f'demo:{known}' for known in DEMOS)}")
    return name


def _id(text: str, name: str) -> str:
    if not _ID.fullmatch(name):
        raise SourceError(text, "what follows the colon is no id of this server")
    return name


def _repo_id(text: str, repo_id: str, forms: str) -> str:
    if repo_id.count("/") != 1:
        raise SourceError(text, forms)
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise SourceError(text, f"not a hub id: {error}") from error
    return repo_id


def _is_revision(revision: str) -> bool:
    return bool(_REVISION.fullmatch(revision)) and ".." not in revision and not revision.endswith(("/", ".lock"))


def _hub_text(text: str, name: str) -> HubText:
    repository, colon, split = name.partition(":")
    owner_and_name, config = repository.split("/")[:2], repository.split("/")[2:]
    if len(config) > 1 or not all(_PART.fullmatch(part) for part in (*config, *([split] if colon else []))):
        raise SourceError(text, _TEXT_FORMS)
    dataset = _repo_id(text, "/".join(owner_and_name), _TEXT_FORMS)
    return HubText(dataset, config[0] if config else None, split or DEFAULT_SPLIT)


def _text_path(text: str) -> Path:
    path = Path(text)
    if path.suffix not in TEXT_SUFFIXES:
        raise SourceError(text, f"a local text ends in {', '.join(TEXT_SUFFIXES)}")
    return path
