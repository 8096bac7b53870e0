"""What the routes work with: made once at the start, handed to each by dependency."""

from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request

from api.metrics import HttpMetrics
from api.rate_limiter import RateLimiter
from api.tailer import Tailer
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.store.artifacts import ArtifactStore


@dataclass(frozen=True)
class Context:
    settings: Settings
    sessions: Sessions
    store: ArtifactStore
    celery: Celery
    tailer: Tailer
    http_metrics: HttpMetrics
    limiter: RateLimiter


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context), "the lifespan has made it"
    return context


InContext = Annotated[Context, Depends(_context)]
