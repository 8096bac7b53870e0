"""A job's report, as far as this version can read it."""

import json

from pydantic import ValidationError

from api.context import Context
from api.routes import jobs
from compression.evaluation_report import EvaluationReport
from compression.page import AnyReport
from compression.report import Report
from jobs.access.keys import Caller
from jobs.errors import ArtifactNotFound
from jobs.states import State
from jobs.view import JobView


def read_report(job: JobView, caller: Caller, context: Context) -> tuple[AnyReport | None, str | None]:
    """Returns: the report, or why there is none to be shown; neither before the job has succeeded."""
    if job.state is not State.SUCCEEDED:
        return None, None
    try:
        content = bytes(jobs.read_report(job.id, caller, context).body)
    except ArtifactNotFound:  # a publication has none
        return None, None
    try:
        data = json.loads(content)
        kind = EvaluationReport if isinstance(data, dict) and data.get("kind") == "evaluation" else Report
        return kind.model_validate(data), None
    except (ValueError, ValidationError):
        return None, "Another version of Scalpel wrote this report; the file report.json has its figures."
