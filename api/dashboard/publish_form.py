"""The form that publishes a job's files: the target that it asks for, as `POST /v1/jobs/{id}/publications` takes it."""

from collections.abc import Mapping

from api.dashboard.pages import checked
from jobs.publications import BucketTarget, HubTarget

FIRST: Mapping[str, str] = {"target": "hub"}


def read_target(form: Mapping[str, str]) -> HubTarget | BucketTarget:
    """Raises: RequestValidationError, by the field's name in the form: of the kind of target that was chosen and no other."""
    if form.get("target") == "bucket":
        return checked(BucketTarget, {"bucket": form.get("bucket", "").strip()})
    asked = {"hub": form.get("hub", "").strip(), "private": "public" not in form}  # private, whatever a form leaves out
    if revision := form.get("revision", "").strip():
        asked["revision"] = revision
    return checked(HubTarget, asked)
