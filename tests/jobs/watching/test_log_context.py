import threading

from jobs.watching.log_context import bind, bound, fields


def test_fields_are_there_for_a_while_and_nest() -> None:
    with bound(job_id="a"):
        with bound(request_id="b"):
            assert fields() == {"job_id": "a", "request_id": "b"}
        assert fields() == {"job_id": "a"}
    assert fields() == {}


def test_another_thread_has_its_own() -> None:
    seen: list[object] = []

    def work() -> None:
        bind(job_id="there")
        seen.append(fields())

    with bound(job_id="here"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert fields() == {"job_id": "here"}
    assert seen == [{"job_id": "there"}]
