"""A small typed client of Scalpel's HTTP interface. It imports none of the other packages.

from client import Scalpel

with Scalpel("http://127.0.0.1:8321") as scalpel:
    job = scalpel.submit("demo:smollm2-135m", {"sparsity": 0.5, "pattern": "2:4"})
    for event in job.events():
        print(event.seq, event.type, event.data)
    job.download("smollm2-2of4")

`AsyncScalpel` does the same in an event loop: `job = await scalpel.submit(...)`, `async for event in job.events()`.
"""

from client import problems
from client.access import AuditEntry, Key, Me, NewKey, SecretStatus
from client.database_calls import Database
from client.errors import (
    ApiError,
    ChecksumMismatch,
    ClientError,
    ModelRefused,
    ServerError,
    ServiceUnreachable,
    UnsafeName,
    WaitTimeout,
)
from client.jobs import AsyncJob, Job
from client.models import (
    Artifact,
    Dataset,
    Estimate,
    Event,
    FieldProblem,
    Forecast,
    Format,
    Method,
    Model,
    Page,
    Readiness,
    Slot,
    Tokens,
    Worker,
)
from client.scalpel import DEFAULT_URL, AsyncScalpel, Scalpel
from client.sweep_calls import Sweep, SweepPoint
from client.webhook_calls import Delivery, NewWebhook, Webhook
from client.webhooks import WebhookRefused, verify_webhook

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "Artifact",
    "AsyncJob",
    "AsyncScalpel",
    "AuditEntry",
    "ChecksumMismatch",
    "ClientError",
    "Database",
    "Dataset",
    "Delivery",
    "Estimate",
    "Event",
    "FieldProblem",
    "Forecast",
    "Format",
    "Job",
    "Key",
    "Me",
    "Method",
    "Model",
    "ModelRefused",
    "NewKey",
    "NewWebhook",
    "Page",
    "Readiness",
    "Scalpel",
    "SecretStatus",
    "ServerError",
    "ServiceUnreachable",
    "Slot",
    "Sweep",
    "SweepPoint",
    "Tokens",
    "UnsafeName",
    "WaitTimeout",
    "Webhook",
    "WebhookRefused",
    "Worker",
    "problems",
    "verify_webhook",
]
