"""What users may look jobs up by, whatever it is: nothing found, never a failure of the database."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from tests.compression.examples import many

WORDS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["\x00", "'", '"', "$.x", "a.b", "%", "NULL"])


@settings(many, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(key=WORDS | st.just("team"), value=WORDS, model=WORDS | st.none())
def test_queries_by_label_and_model_find_nothing_rather_than_fail(
    sessions: Sessions, key: str, value: str, model: str | None
) -> None:
    with sessions() as session:
        assert repository.list_jobs(session, OURS, label=(key, value), model=model).rows == []
