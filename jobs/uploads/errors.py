"""What goes wrong with data sets and models that users bring."""

from jobs.errors import JobsError


class InvalidDataset(JobsError):
    """The text is not what a data set can be.

    Args:
        reason: one sentence on what is wrong.
        line: counted from 1; None where it is not about a line.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason if line is None else f"line {line}: {reason}")


class DatasetNotFound(JobsError):
    """No data set has this id."""

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"no data set {dataset_id}")


class ModelNotFound(JobsError):
    """No uploaded model has this id."""

    def __init__(self, model_id: str) -> None:
        super().__init__(f"no uploaded model {model_id}")


class FileNotInManifest(JobsError):
    """The model's manifest names no such file."""

    def __init__(self, model_id: str, path: str) -> None:
        super().__init__(f"the manifest of model {model_id} names no file {path!r}")


class InUse(JobsError):
    """Jobs that have not ended read what was to be deleted."""

    def __init__(self, what: str, job_ids: list[str]) -> None:
        self.job_ids = job_ids
        super().__init__(f"{what} is read by jobs that have not ended: {', '.join(job_ids)}; wait, or cancel them")


class UploadOffsetMismatch(JobsError):
    """The part does not begin where the file has ended so far.

    Args: offset: where the next part must begin, in bytes.
    """

    def __init__(self, path: str, given: int, offset: int) -> None:
        self.offset = offset
        super().__init__(f"the part of {path} begins at byte {given}, and the file has {offset} bytes so far; go on there")


class UploadClosed(JobsError):
    """The model takes no more bytes: it is whole, or was refused."""

    def __init__(self, model_id: str, state: str) -> None:
        super().__init__(f"model {model_id} is {state} and takes no more bytes")


class PartTooLong(JobsError):
    """The part goes beyond the size that the manifest promised, or is empty."""

    def __init__(self, path: str, offset: int, length: int, size_bytes: int) -> None:
        super().__init__(f"{length} bytes at byte {offset} are no part of {path}, which has {size_bytes} bytes")
