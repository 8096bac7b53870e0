"""How to make one of each thing that routes name by id, for tests that walk the whole OpenAPI document.

A new kind of id registers here, or those tests fail.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from ulid import ULID

from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_exports import report
from tests.compression import reports

MODEL_FILE = "config.json"
TINY_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": 2,
    "tie_word_embeddings": True,
}  # fmt: skip


@dataclass(frozen=True)
class House:
    """What makers work with: the owner's client, and a worker."""

    web: TestClient
    submit: Submit
    worker: Worker

    def solved_job(self) -> str:
        """With a report and solutions."""
        job_id = self.submit(recipe={"bits": 4})
        while self.worker.claim() != job_id:
            pass  # an older one that is left over
        recipe = {"bits": 4, "group_size": 64}
        self.worker.succeed(job_id, {"report.json": report(recipe)}, {"block-00000.safetensors": b"block"})
        return job_id

    def publishable_job(self) -> str:
        """Of a tenant that may write to the hub."""
        self.web.put("/v1/secrets/hub-token", json={"token": "hf_" + "T" * 34})
        return self.solved_job()

    def paused_job(self) -> str:
        job_id = self.submit()
        assert self.web.post(f"/v1/jobs/{job_id}/pause").json()["state"] == "paused"
        return job_id

    def key(self) -> str:
        return str(self.web.post("/v1/keys", json={"name": "test", "scopes": ["read"]}).json()["id"])

    def webhook(self) -> str:
        body = {"url": "https://hooks.example.com/", "events": ["job.failed"]}
        return str(self.web.post("/v1/webhooks", json=body).json()["id"])

    def delivery(self) -> str:
        """Of the newest webhook."""
        webhook_id = self.web.get("/v1/webhooks").json()["items"][0]["id"]
        return str(self.web.post(f"/v1/webhooks/{webhook_id}/test").json()["id"])

    def sweep(self) -> str:
        body = {"model": "demo:smollm2-135m", "grid": {"bits": [3, 4]}}
        return str(self.web.post("/v1/sweeps", json=body).json()["id"])

    def database(self) -> str:
        """One that a job has chosen from."""
        job_id = self.submit()
        while self.worker.claim() != job_id:
            pass
        self.worker.succeed(job_id, {"report.json": reports.faster().model_dump_json().encode()})
        return str(self.web.get("/v1/databases").json()["items"][0]["id"])

    def dataset(self) -> str:
        params, headers = {"name": "test"}, {"Content-Type": "text/plain"}
        return str(self.web.post("/v1/datasets", params=params, content=b"Some words.", headers=headers).json()["id"])

    def model(self) -> str:
        """An upload that has just begun; each time another one."""
        files = [
            {"path": path, "size_bytes": 100, "sha256": hashlib.sha256(f"{path} {ULID()}".encode()).hexdigest()}
            for path in (MODEL_FILE, "model.safetensors")
        ]
        return str(self.web.post("/v1/models", json={"name": "test", "files": files}).json()["id"])

    def tokenized_model(self) -> str:
        """A ready upload, as a job names it: headers, a config and a tokenizer are all that anybody looks at."""
        header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        tokenizer = Tokenizer(tokenizer_models.BPE(vocab={"S": 0, "o": 1}, merges=[]))
        files = {
            MODEL_FILE: json.dumps(TINY_CONFIG).encode(),
            "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(4),
            "tokenizer.json": tokenizer.to_str().encode(),
        }
        entries = [
            {"path": path, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()
        ]
        model_id = self.web.post("/v1/models", json={"name": "tokens", "files": entries}).json()["id"]
        headers = {"Content-Type": "application/octet-stream", "Upload-Offset": "0"}
        for path, data in files.items():
            self.web.put(f"/v1/models/{model_id}/files/{path}", content=data, headers=headers)
        self.worker.tend_uploads()
        return f"upload:{model_id}"


MAKERS: Mapping[str, Callable[[House], str]] = {
    "job_id": House.solved_job,
    "name": lambda _: "report.json",  # of that job's artifact
    "key_id": House.key,
    "sweep_id": House.sweep,
    "database_id": House.database,
    "webhook_id": House.webhook,
    "dataset_id": House.dataset,
    "model_id": House.model,
    "path": lambda _: MODEL_FILE,  # of that model
}
"""Name of a path's parameter -> how to have one."""

MAKERS_OF: Mapping[tuple[str, str], Mapping[str, Callable[[House], str]]] = {
    ("get", "/v1/datasets/{dataset_id}/tokens"): {"model": House.tokenized_model},
    ("post", "/v1/jobs/{job_id}/cancel"): {"job_id": lambda house: house.submit()},
    ("post", "/v1/jobs/{job_id}/pause"): {"job_id": lambda house: house.submit()},
    ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"): {"delivery_id": House.delivery},
    ("post", "/v1/jobs/{job_id}/publications"): {"job_id": House.publishable_job},
    ("post", "/v1/jobs/{job_id}/resume"): {"job_id": House.paused_job},
}
"""The same for a single operation, where it needs another one to succeed."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the document has it."""

    method: str
    path: str
    description: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @property
    def is_write(self) -> bool:
        return self.method not in ("get", "head")

    def make_ids(self, house: House) -> dict[str, str]:
        """One of each thing that the path names, and of those in the query that have a maker of their own."""
        special = MAKERS_OF.get((self.method, self.path), {})
        makers = {**MAKERS, **special}
        unknown = set(self.parameters) - set(makers)
        assert not unknown, f"{self.path}: tell tests/api/resources.py how to make {sorted(unknown)}"
        return {name: makers[name](house) for name in (*self.parameters, *(special.keys() - set(self.parameters)))}

    def send(self, client: TestClient, ids: Mapping[str, str]) -> Response:
        """With what the route asks for: the first examples of its parameters, and of its body's schema."""
        body = self._body()
        headers = {**body.pop("headers", {}), **self._examples("header")}
        params = {**self._examples("query"), **{name: made for name, made in ids.items() if name not in self.parameters}}
        return client.request(self.method, self.path.format(**ids), params=params, headers=headers, **body)

    def _examples(self, place: str) -> dict[str, str]:
        """Of the parameters that it cannot do without."""
        asked = [each for each in self.description.get("parameters", ()) if each["in"] == place and each["required"]]
        return {each["name"]: str(each["schema"]["examples"][0]) for each in asked}

    def _body(self) -> dict[str, Any]:
        content = self.description.get("requestBody", {}).get("content", {})
        if not content:
            return {}
        media_type, body = next(iter(content.items()))
        if media_type != "application/json":
            return {"content": body.get("example", "x").encode(), "headers": {"content-type": media_type}}
        schema = body["schema"]
        if "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert schema.get("examples"), f"{self.method} {self.path}: give the body's model an example"
        return {"json": schema["examples"][0]}


def operations(app: FastAPI) -> Iterator[Operation]:
    document = app.openapi()
    for path, described in document["paths"].items():
        for method, description in described.items():
            yield Operation(method, path, description, document)
