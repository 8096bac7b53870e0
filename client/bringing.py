"""Bringing data sets and models to a service, and looking at what was brought."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from client.calls import Core, call, items
from client.download import ignore_bytes
from client.errors import ApiError, ModelRefused, ServiceUnreachable
from client.event_stream import RECONNECT_DELAYS_S
from client.models import Dataset, Model, ModelFile, Tokens
from client.sending import is_passing, jittered
from client.steps import Flow, Sleep, Work

PART_BYTES = 16 * 1024 * 1024
LONG_TIMEOUT_S = 900.0  # a data set is stored before the service answers
POLL_S = 0.25
JSON_LINES = (".jsonl", ".ndjson")
MODEL_FILES = re.compile(  # of a folder; the rest of it (a README, pickled weights) is left where it is
    r".*\.safetensors|model\.safetensors\.index\.json|(generation_|tokenizer_)?config\.json|tokenizer\.(json|model)"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json)"
)

OnBytes = Callable[[int], None]


class Bringing(Core):
    """Data sets and models of the tenant."""

    @call
    def upload_dataset(self, path: Path | str, name: str | None = None) -> Flow[Dataset]:
        """Bring a text: JSON Lines where its name ends so, else running text. The same bytes again are the same data set."""
        path = Path(path)
        headers = {"Content-Type": "application/jsonl" if path.suffix in JSON_LINES else "text/plain"}
        query = {"name": name or path.name}
        sent: dict[str, Any] = {"content": path, "headers": headers, "timeout": LONG_TIMEOUT_S}
        return self._call(Dataset, "POST", "/v1/datasets", params=query, **sent)

    @call
    def dataset(self, dataset_id: str) -> Flow[Dataset]:
        return self._call(Dataset, "GET", _dataset_path(dataset_id))

    @call
    def count_tokens(self, dataset_id: str, model: str) -> Flow[Tokens]:
        """How many tokens a data set has for a model, told from its beginning."""
        return self._call(Tokens, "GET", f"{_dataset_path(dataset_id)}/tokens", params={"model": model})

    @items(Dataset)
    def datasets(self) -> Flow[None]:
        """All data sets, newest first, fetched page by page."""
        return self._pages(Dataset, "/v1/datasets")

    @call
    def delete_dataset(self, dataset_id: str) -> Flow[None]:
        yield from self._send("DELETE", _dataset_path(dataset_id))

    @items(Model)
    def models(self) -> Flow[None]:
        """The demo models, then the uploaded ones, newest first, fetched page by page."""
        return self._pages(Model, "/v1/models")

    @call
    def model(self, model_id: str) -> Flow[Model]:
        """One uploaded model, with its files."""
        return self._call(Model, "GET", _model_path(model_id))

    @call
    def delete_model(self, model_id: str) -> Flow[None]:
        yield from self._send("DELETE", _model_path(model_id))

    @call
    def upload_model(self, folder: Path | str, name: str | None = None, on_bytes: OnBytes = ignore_bytes) -> Flow[Model]:
        """Bring a model's folder, and wait until the service has judged it.

        What was brought before, in an upload that was cut off or with another model, is not sent again.

        Args: on_bytes: told how many bytes more the service has; of what it had already, at once.
        Raises: ModelRefused.
        """
        folder = Path(folder)
        files = {path.name: path for path in sorted(folder.iterdir()) if MODEL_FILES.fullmatch(path.name)}
        manifest = yield Work(lambda: [_promise(path) for path in files.values()])
        promised = {"name": name or folder.resolve().name, "files": manifest}
        model = yield from self._call(Model, "POST", "/v1/models", json=promised)
        assert model.id is not None, "of an upload"
        part_bytes = min(PART_BYTES, model.part_bytes or PART_BYTES)
        for file in model.files:
            on_bytes(file.received_bytes)
            if model.state == "uploading":
                yield from self._send_file(model.id, file, files[file.path], part_bytes, on_bytes)
        while not (model := (yield from self._call(Model, "GET", _model_path(model.id or "")))).is_settled:
            yield Sleep(POLL_S)
        if model.state == "refused":
            raise ModelRefused(model.title, model.problem)
        return model

    def _send_file(self, model_id: str, file: ModelFile, path: Path, part_bytes: int, on_bytes: OnBytes) -> Flow[None]:
        failures, received = 0, file.received_bytes
        where = f"{_model_path(model_id)}/files/{quote(file.path, safe='')}"
        with path.open("rb") as source:
            while received < file.size_bytes:
                try:
                    source.seek(received)
                    now = yield from self._send_part(where, received, (yield Work(lambda: source.read(part_bytes))))
                except (ServiceUnreachable, ApiError) as error:
                    if failures == len(RECONNECT_DELAYS_S) or not is_passing(error):
                        raise
                    yield Sleep(jittered(RECONNECT_DELAYS_S[failures]))
                    failures += 1
                    continue
                on_bytes(now - received)
                failures, received = 0, now

    def _send_part(self, where: str, offset: int, part: bytes) -> Flow[int]:
        """Returns: how far the file has come; another sender of the same file may have been there first."""
        headers = {"Content-Type": "application/octet-stream", "Upload-Offset": str(offset)}
        try:
            return (yield from self._call(ModelFile, "PUT", where, content=part, headers=headers)).received_bytes
        except ApiError as error:
            if error.type not in ("upload-offset", "upload-closed"):
                raise
        return (yield from self._call(ModelFile, "GET", where)).received_bytes


def _dataset_path(dataset_id: str) -> str:
    return f"/v1/datasets/{quote(dataset_id, safe='')}"


def _model_path(model_id: str) -> str:
    return f"/v1/models/{quote(model_id, safe='')}"


def _promise(path: Path) -> dict[str, Any]:
    """A file of a manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.name, "size_bytes": path.stat().st_size, "sha256": digest}
