"""What the routes work with: made once at the start, handed to each by dependency."""

from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request

from api.tailer import Tailer
from jobs.artifacts import ArtifactStore
from jobs.database import Sessions
from jobs.settings import Settings


@dataclass(frozen=True)
class Context:
    settings: Settings
    sessions: Sessions
    store: ArtifactStore
    celery: Celery
    tailer: Tailer


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context), "the lifespan has made it"
    return context


InContext = Annotated[Context, Depends(_context)]
