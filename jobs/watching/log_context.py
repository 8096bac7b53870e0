"""Which request or job this thread is at work for, for every line that it logs meanwhile."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_bound: ContextVar[Mapping[str, str | int]] = ContextVar("scalpel_log_context", default=MappingProxyType({}))


def bind(**fields: str | int) -> None:
    """Every line carries these fields for the rest of this task or thread, and of what it starts."""
    _bound.set({**_bound.get(), **fields})


@contextmanager
def bound(**fields: str | int) -> Iterator[None]:
    """Every line that is logged inside carries these fields: job, attempt, tenant, request_id."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def fields() -> Mapping[str, str | int]:
    """What is bound now."""
    return _bound.get()
