"""Everything the job domain refuses or fails with. No HTTP status in here: `api/problems.py` maps these once."""

from datetime import datetime


class JobsError(Exception):
    """Base of all errors of the job domain."""


class Unauthenticated(JobsError):
    """The request carries no key that opens anything."""


class Forbidden(JobsError):
    """The key is good, but not for this."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"the key does not have the scope `{scope}`")


class QuotaExceeded(JobsError):
    """The tenant has no room for this."""

    def __init__(self, quota: str, limit: int, used: float, cure: str) -> None:
        self.quota = quota
        self.limit = limit
        self.used = used
        super().__init__(f"the limit `{quota}` is {limit} and {used:.10g} are used; {cure}, or ask the operator for more")


class TenantNotFound(JobsError):
    """No tenant has this name or id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no tenant {name}; `scalpel admin tenants list` shows them all")


class TenantExists(JobsError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a tenant {name} already")


class KeyNotFound(JobsError):
    """No key of the tenant has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key {key_id}")


class SecretNotFound(JobsError):
    """The tenant has no secret of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no secret {name} is set")


class SecretsNotConfigured(JobsError):
    """There is no master key, so nothing can be kept secret."""

    def __init__(self) -> None:
        super().__init__("this server cannot keep secrets: its setting SCALPEL_SECRET_KEYS names no master key")


class SecretUnreadable(JobsError):
    """A secret cannot be opened with the master keys at hand."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the secret {name} cannot be read: {reason}")


class RateLimited(JobsError):
    """The caller asks more often than this server allows."""

    def __init__(self, what: str, per_minute: int, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"at most {per_minute} {what} a minute; go on in {retry_after_s} s")


class DatabaseNotFound(JobsError):
    """The tenant has no model database of this id."""

    def __init__(self, database_id: str) -> None:
        super().__init__(f"no database {database_id}")


class SweepNotFound(JobsError):
    """The tenant has no sweep of this id."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"no sweep {sweep_id}")


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


class ArtifactsNotReady(JobsError):
    """The job has no files, because it has not succeeded (yet)."""

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"job {job_id} is {state}; it has files once it has succeeded")


class ArtifactGone(JobsError):
    """The job's files were deleted by a user; the job and its report are still there."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the files of job {job_id} were deleted; run it again, or export its solutions where it has them")


class Referenced(JobsError):
    """Something else still needs what was to be deleted."""

    def __init__(self, job_id: str, exports: int) -> None:
        self.job_id = job_id
        self.exports = exports
        super().__init__(f"job {job_id} is needed by {exports} export{'s' * (exports > 1)}; delete those first, or cascade")


class ArtifactCorrupt(JobsError):
    """Stored bytes are gone or are no longer those that were put there."""


class StoreUnavailable(JobsError):
    """The artifact store does not answer, or refuses what it is asked."""

    def __init__(self) -> None:
        super().__init__("the artifact store does not answer")


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


class NotPublishable(JobsError):
    """The job has no files of a model to publish."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} cannot be published: {reason}")


class SolutionsGone(JobsError):
    """The job succeeded, but its solutions are no longer kept, or never were."""

    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id
        whose = f"job {job_id}" if job_id else "a job that was removed"
        super().__init__(f"the solutions of {whose} are not kept (any more); another format needs a new compression")


class ArtifactsExpired(JobsError):
    """The job's files were removed when the time was over for which this server keeps them; its report is still there."""

    def __init__(self, job_id: str, expired_at: datetime) -> None:
        self.job_id = job_id
        self.expired_at = expired_at
        when = f"{expired_at:%Y-%m-%d %H:%M} UTC"
        super().__init__(
            f"the files of job {job_id} were removed on {when}, as this server keeps them for a time; run it again"
        )


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


class PreconditionFailed(JobsError):
    """The job is no longer the version that the client wants to change."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} has changed since; read it again, and decide anew")


class IdempotencyKeyReused(JobsError):
    """The key came with another request before."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the Idempotency-Key {key} was used for another request; take a fresh one for each")


class IdempotencyKeyInFlight(JobsError):
    """The first request with this key is still at work, or was while this one waited, and had to let go."""

    retry_after_s = 1

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"a request with the Idempotency-Key {key} is at work; ask again for its answer")


class UrlRefused(JobsError):
    """A URL that a user gave leads where this service does not go."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the URL is refused: {reason}")


class WebhookNotFound(JobsError):
    """No webhook has this id."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"no webhook {webhook_id}")


class DeliveryNotFound(JobsError):
    """The webhook has no delivery of this id (any more)."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"no delivery {delivery_id}")


class WebhookDisabled(JobsError):
    """Nothing is sent to a webhook that is disabled."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f'webhook {webhook_id} is disabled; enable it first: PATCH with {{"is_enabled": true}}')


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


class CannotFit(JobsError):
    """The job would need more than any worker of this server gives to one.

    Args:
        field: of the request, which would make it smaller.
        what: the limit, such as `host memory`.
        limit_bytes, needed_bytes: what there is, and what the estimate says.
        allowed: the cure, in words.
    """

    def __init__(self, field: str, what: str, limit_bytes: int, needed_bytes: int, allowed: str) -> None:
        self.field = field
        self.reason = (
            f"the job needs about {needed_bytes:,} bytes of {what}, and this server gives a job at most {limit_bytes:,}"
        )
        self.allowed = allowed
        super().__init__(f"{field}: {self.reason} (allowed: {allowed})")


class SchemaMismatch(JobsError):
    """The database was migrated by another version of this service."""

    def __init__(self, found: str | None, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(
            f"the database's schema is {found or 'empty'}, and this version needs {expected}; run `scalpel migrate`"
        )


class SettingsError(JobsError):
    """The process was started without a setting that it needs."""
