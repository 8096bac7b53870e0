"""A small typed client of Scalpel's HTTP interface. It imports none of the other packages.

from client import Scalpel

with Scalpel("http://127.0.0.1:8321") as scalpel:
    job = scalpel.submit("demo:smollm2-135m", {"sparsity": 0.5, "pattern": "2:4"})
    for event in scalpel.events(job.id):
        print(event.seq, event.type, event.data)
    scalpel.download_all(job.id, Path("smollm2-2of4"))
"""

from client.errors import ApiError, ChecksumMismatch, ClientError, ServiceUnreachable, UnsafeName
from client.models import Artifact, Event, FieldProblem, Forecast, Format, Job, JobPage, Method, Model
from client.scalpel import DEFAULT_URL, Scalpel

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "Artifact",
    "ChecksumMismatch",
    "ClientError",
    "Event",
    "FieldProblem",
    "Forecast",
    "Format",
    "Job",
    "JobPage",
    "Method",
    "Model",
    "Scalpel",
    "ServiceUnreachable",
    "UnsafeName",
]
