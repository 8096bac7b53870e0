"""How often a caller may ask, counted over the last minute: in Redis for all processes, else in this one.

While Redis does not answer, each process counts for itself: a service that refuses everybody because its counter is away would
be worse than one that lets some ask more often.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import redis
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.errors import RateLimited
from jobs.settings import Settings

Kind = Literal["reads", "writes", "requests without a good key"]
WINDOW_S = 60
PATIENCE_S = 0.25  # with Redis, for one request
RETRY_S = 10.0  # after it did not answer, it is not asked for so long

log = logging.getLogger(__name__)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Allowance:
    """What is left to a caller. Args: per_minute: 0 where nothing is limited. reset_s: until there is more."""

    kind: Kind
    per_minute: int
    is_exceeded: bool = False
    remaining: int = 0
    reset_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-10 has them."""
        if not self.per_minute:
            return {}
        return {
            "RateLimit-Policy": f'"{self.kind}";q={self.per_minute};w={WINDOW_S}',
            "RateLimit": f'"{self.kind}";r={self.remaining};t={self.reset_s}',
        }

    def check(self) -> None:
        """Raises: RateLimited."""
        if self.is_exceeded:
            raise RateLimited(self.kind, self.per_minute, max(1, self.reset_s))


class RateLimiter:
    """Safe to use from several threads. Args: shared: the storage of all processes; None: each counts for itself."""

    def __init__(self, per_minute: dict[Kind, int], shared: Storage | None = None) -> None:
        self._per_minute = per_minute
        self._shared = None if shared is None else SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared_again_at = 0.0  # on the monotonic clock

    def spend(self, kind: Kind, who: str) -> Allowance:
        """Count one request of `who`; one that is refused is not counted."""
        per_minute = self._per_minute[kind]
        if not per_minute:
            return Allowance(kind, 0)
        item = RateLimitItemPerMinute(per_minute, namespace="scalpel")

        def spend_from(counter: SlidingWindowCounterRateLimiter) -> Allowance:
            is_exceeded = not counter.hit(item, kind, who)
            reset_at, remaining = counter.get_window_stats(item, kind, who)
            return Allowance(kind, per_minute, is_exceeded, max(0, int(remaining)), max(0, math.ceil(reset_at - time.time())))

        return self._with_counter(spend_from)

    def _with_counter(self, work: Callable[[SlidingWindowCounterRateLimiter], Value]) -> Value:
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            try:
                return work(self._shared)
            except StorageError as error:
                self._shared_again_at = time.monotonic() + RETRY_S
                log.warning("the broker does not count requests, so this process counts its own: %s", error.storage_error)
        return work(self._own)


def rate_limiter(settings: Settings) -> RateLimiter:
    per_minute: dict[Kind, int] = {
        "reads": settings.reads_per_minute,
        "writes": settings.writes_per_minute,
        "requests without a good key": settings.failed_keys_per_minute,
    }
    return RateLimiter(per_minute, _shared(settings.broker_url or ""))


def _shared(broker_url: str) -> Storage | None:
    if not broker_url.startswith(("redis://", "rediss://", "redis+socket://")):
        return None
    url = broker_url.replace("redis+socket://", "unix://", 1)  # Celery's word for it
    pool = redis.ConnectionPool.from_url(url, socket_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0))
    return RedisStorage("redis://", pool, wrap_exceptions=True)  # the pool has the address
