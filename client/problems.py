"""Refusals of the service by their problem's type. What has no class here is told as that of its status.

Of failures of the service itself (5xx) only those that pass by themselves have classes; the others are `ServerError`.
"""

from client.errors import ApiError, ServerError


class Invalid(ApiError, type="invalid-request", status=422):
    """The request makes no sense to the service; `problem.errors` names the fields."""


class InvalidOptions(Invalid, type="invalid-options"):
    """Recipe, texts or output contradict each other, or do not fit the model."""


class UnsupportedModel(Invalid, type="unsupported-model"): ...


class CalibrationError(Invalid, type="calibration-error"): ...


class InvalidTemplate(Invalid, type="invalid-template"): ...


class SourceError(Invalid, type="source-error"):
    """A model or text that the request names cannot be had."""


class CannotFit(Invalid, type="cannot-fit"):
    """The job needs more than this server has; the field's `allowed` is the cure."""


class InvalidCursor(Invalid, type="invalid-cursor"): ...


class InvalidDataset(Invalid, type="invalid-dataset"): ...


class UnstorableValue(Invalid, type="unstorable-value"): ...


class PartTooLong(Invalid, type="part-too-long"): ...


class UrlRefused(Invalid, type="url-refused"): ...


class IdempotencyKeyReused(Invalid, type="idempotency-key-reused"): ...


class Unauthenticated(ApiError, type="unauthenticated", status=401):
    """A key is needed, or the one that was given opens nothing."""


class Forbidden(ApiError, type="forbidden", status=403):
    """The key's scopes do not allow this."""


class NotFound(ApiError, status=404):
    """There is no such thing, or it is another tenant's."""


class JobNotFound(NotFound, type="job-not-found"): ...


class ArtifactNotFound(NotFound, type="artifact-not-found"): ...


class DatasetNotFound(NotFound, type="dataset-not-found"): ...


class ModelNotFound(NotFound, type="model-not-found"): ...


class FileNotInManifest(NotFound, type="file-not-in-manifest"): ...


class KeyNotFound(NotFound, type="key-not-found"): ...


class SecretNotFound(NotFound, type="secret-not-found"): ...


class DatabaseNotFound(NotFound, type="database-not-found"): ...


class SweepNotFound(NotFound, type="sweep-not-found"): ...


class TenantNotFound(NotFound, type="tenant-not-found"): ...


class WebhookNotFound(NotFound, type="webhook-not-found"): ...


class DeliveryNotFound(NotFound, type="delivery-not-found"): ...


class Conflict(ApiError, status=409):
    """The thing is not in a state for this."""


class NotReady(Conflict):
    """It may be there later."""


class ArtifactsNotReady(NotReady, type="artifacts-not-ready"): ...


class ReportNotReady(NotReady, type="report-not-ready"): ...


class IllegalTransition(Conflict, type="illegal-transition"):
    """The job's state does not allow this."""


class StaleAttempt(Conflict, type="stale-attempt"): ...


class Referenced(Conflict, type="referenced"):
    """Something else needs what was to be deleted."""


class InUse(Conflict, type="in-use"):
    """Jobs that have not ended read it."""


class NotExportable(Conflict, type="not-exportable"): ...


class NotPublishable(Conflict, type="not-publishable"): ...


class WebhookDisabled(Conflict, type="webhook-disabled"): ...


class TenantExists(Conflict, type="tenant-exists"): ...


class SecretsNotConfigured(Conflict, type="secrets-not-configured"): ...


class UploadOffsetMismatch(Conflict, type="upload-offset"): ...


class UploadClosed(Conflict, type="upload-closed"): ...


class IdempotencyKeyInFlight(Conflict, type="idempotency-key-in-flight"): ...


class Gone(ApiError, status=410):
    """It was there, and is kept no longer."""


class ArtifactGone(Gone, type="artifact-gone"): ...


class ArtifactsExpired(Gone, type="artifacts-expired"): ...


class SolutionsGone(Gone, type="solutions-gone"): ...


class PreconditionFailed(ApiError, type="precondition-failed", status=412): ...


class TooManyRequests(ApiError, status=429): ...


class RateLimited(TooManyRequests, type="rate-limited"):
    """Too many requests a minute, even after waiting as the service asked."""


class QuotaExceeded(TooManyRequests, type="quota-exceeded"):
    """The tenant has reached one of its limits."""


class Unavailable(ServerError, status=503):
    """Something that the service needs is away; it tries to come back by itself."""


class DatabaseUnavailable(Unavailable, type="database-unavailable"): ...


class StoreUnavailable(Unavailable, type="store-unavailable"): ...


class FetchFailed(Unavailable, type="fetch-failed"):
    """The hub did not answer for a model or a text."""


class SchemaMismatch(Unavailable, type="schema-mismatch"): ...
