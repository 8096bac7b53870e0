"""Everything the library refuses or fails with. No HTTP status in here: `api/problems.py` maps these once."""


class CompressionError(Exception):
    """Base of all errors that a caller of the library may want to catch."""


class InvalidOptions(CompressionError):
    """The request itself is wrong: out of range, contradictory, or unfit for the named model.

    Args:
        field: dotted path of the offending option, such as `recipe.sparsity`.
        reason: one sentence that names the value and what is wrong with it.
        allowed: the allowed range or values, in words.
    """

    def __init__(self, field: str, reason: str, allowed: str | None = None) -> None:
        self.field = field
        self.reason = reason
        self.allowed = allowed
        super().__init__(f"{field}: {reason}" + (f" (allowed: {allowed})" if allowed else ""))


class UnsupportedModel(CompressionError):
    """The checkpoint cannot be compressed: unknown architecture, remote code, pickled or quantised weights, damage."""


class CalibrationError(CompressionError):
    """The calibration or evaluation text cannot give the windows that were asked for."""


class InvalidTemplate(CompressionError):
    """A chat template that cannot be rendered: no template, refusing the messages, or beyond what it may do and take."""


class NumericalError(CompressionError):
    """The mathematics broke down and nothing sensible can be computed (non-finite inputs, no usable Hessian).

    Args:
        layer: name of the module whose inputs or weights are at fault.
        reason: what was seen.
    """

    def __init__(self, layer: str, reason: str) -> None:
        self.layer = layer
        self.reason = reason
        super().__init__(f"{layer}: {reason}")


class OutOfMemory(CompressionError):
    """An allocation failed. `low_memory=True` may help; finished blocks are kept.

    Args:
        place: the host or the device.
        reason: what was seen.
    """

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(f"{place} is out of memory: {reason}")


class DiskFull(CompressionError):
    """Nothing more can be written; finished blocks are kept, and no artifact has appeared.

    Args:
        path: what was being written, as far as is known.
        reason: what was seen.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be written: {reason}; free some space and run it again")


class VerificationError(CompressionError):
    """The written artifact is not what the solver believed: it does not load, or its figures differ."""


class Cancelled(Exception):
    """Raised by an `on_event` callback to stop a pass at the next event; finished blocks stay on disk."""
