"""Everything the job domain refuses or fails with. No HTTP status in here: `api/problems.py` maps these once."""


class JobsError(Exception):
    """Base of all errors of the job domain."""


class JobNotFound(JobsError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"no job {job_id}")


class ArtifactNotFound(JobsError):
    """The job has no artifact of this name (yet)."""

    def __init__(self, job_id: str, name: str) -> None:
        self.job_id = job_id
        self.name = name
        super().__init__(f"job {job_id} has no artifact {name}")


class ArtifactCorrupt(JobsError):
    """Stored bytes are gone or are no longer those that were put there."""


class ReportNotReady(JobsError):
    """The job has no report, because it has not succeeded (yet)."""

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"job {job_id} is {state}; a report exists once it has succeeded")


class NotExportable(JobsError):
    """The job has nothing to export: it has not succeeded, or it is no compression."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} cannot be exported: {reason}")


class SolutionsGone(JobsError):
    """The job succeeded, but its solutions are no longer kept, or never were."""

    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id
        whose = f"job {job_id}" if job_id else "a job that was removed"
        super().__init__(f"the solutions of {whose} are not kept (any more); another format needs a new compression")


class StaleAttempt(JobsError):
    """A worker wrote under an attempt that is no longer the running one: it has lost the job and must let go."""

    def __init__(self, job_id: str, attempt: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        super().__init__(f"attempt {attempt} of job {job_id} is no longer the running one")


class IllegalTransition(JobsError):
    """The job's state does not allow what was asked."""

    def __init__(self, job_id: str, state: str, wanted: str) -> None:
        self.job_id = job_id
        self.state = state
        self.wanted = wanted
        super().__init__(f"job {job_id} is {state} and cannot become {wanted}")


class InvalidCursor(JobsError):
    """The page cursor is not one that this server gave out."""


class SourceError(JobsError):
    """A model or text cannot be had, and trying again would not help.

    Args:
        source: as the user named it.
        reason: one sentence on what is wrong with it.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source}: {reason}")


class SettingsError(JobsError):
    """The process was started without a setting that it needs."""
