"""Lists by model and label: the right jobs in the right order, from one stretch of an index."""

from collections.abc import Iterator

import pytest
from sqlalchemy import column, event, insert, select, table

from jobs import database, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.facets import MODEL
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Facet, Job
from jobs.transitions import now
from tests.jobs.conftest import Submit


def pages(sessions: Sessions, **filters: object) -> list[list[str]]:
    found, cursor = [], None
    with sessions() as session:
        while True:
            page = repository.list_jobs(session, OURS, limit=2, cursor=cursor, **filters)  # type: ignore[arg-type]
            found.append([job.id for job in page.rows])
            if (cursor := page.next_cursor) is None:
                return found


def test_pages_of_a_label_hold_its_jobs_alone_the_newest_first(sessions: Sessions, submit: Submit) -> None:
    ids = [submit(labels={"team": "blue" if number % 2 else "red", "number": str(number)}).id for number in range(6)]
    assert pages(sessions, label=("team", "red")) == [[ids[4], ids[2]], [ids[0]]]
    assert pages(sessions, label=("number", "3")) == [[ids[3]]]
    assert pages(sessions, label=("number", "blue")) == pages(sessions, label=(MODEL, "demo:smollm2-135m")) == [[]]


def test_long_names_of_models_that_begin_alike_are_told_apart(sessions: Sessions, submit: Submit) -> None:
    names = [f"/{'m' * 400}/{end}" for end in ("one", "two")]
    ids = [submit(model=name).id for name in names]
    assert [pages(sessions, model=name) for name in names] == [[[ids[0]]], [[ids[1]]]]


def test_all_filters_together(sessions: Sessions, submit: Submit) -> None:
    ids = [submit(model=f"owner/{number % 2}", labels={"team": "red"}).id for number in range(4)]
    with sessions.begin() as session:
        repository.request_cancel(session, OURS, ids[3])
    filters = {"model": "owner/1", "label": ("team", "red")}
    assert pages(sessions, **filters, state=State.QUEUED) == [[ids[1]]]
    assert pages(sessions, **filters) == [[ids[3], ids[1]]]


@pytest.fixture
def plans(settings: Settings) -> Iterator[tuple[Sessions, list[str]]]:
    """A database in SQLite, and how it goes about every query: where PostgreSQL's small tables would be read whole."""
    database.migrate(settings)
    engine, found = database.engine(settings), list[str]()

    @event.listens_for(engine, "before_cursor_execute")
    def explain(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT"):
            plan = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
            found.extend(row[3] for row in plan.fetchall())

    yield database.sessions(engine), found
    engine.dispose()


@pytest.mark.parametrize(
    "filters",
    [{}, {"state": State.PAUSED}, {"model": "owner/name"}, {"label": ("team", "red")}],
    ids=["none", "state", "model", "label"],
)
def test_a_page_is_one_stretch_of_an_index(plans: tuple[Sessions, list[str]], filters: dict[str, object]) -> None:
    sessions, plan = plans
    pages(sessions, **filters)
    assert plan and not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step], plan


def test_jobs_from_before_are_found(empty_database: Settings) -> None:
    database.migrate(empty_database, "0012")
    engine = database.engine(empty_database)
    row = {
        "id": "0" * 26, "tenant_id": OURS, "state": "queued", "priority": 0, "model": "m" * 300, "request": {}, "recipe": {},
        "labels": {"team": 'a "quoted" one', "n": "1"}, "attempt": 0, "max_attempts": 1, "claimable_at": (time := now()),
        "last_seq": 1, "cancel_requested": False, "created_at": time, "updated_at": time,
    }  # fmt: skip
    before = table("jobs", *(column(name, Job.__table__.c[name].type) for name in row))
    with engine.begin() as connection:
        connection.execute(insert(before).values(row))
    database.migrate(empty_database)
    with database.sessions(engine)() as session:
        found = {(facet.name, facet.value, facet.created_at) for facet in session.scalars(select(Facet))}
    engine.dispose()
    assert found == {(MODEL, "m" * 255, time), ("team", 'a "quoted" one', time), ("n", "1", time)}
