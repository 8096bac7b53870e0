from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.bodies import MAX_BODY_BYTES

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321"])
def test_names_of_this_machine_are_answered(web: TestClient, host: str) -> None:
    assert web.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "localhost@evil.example", ""])
def test_foreign_host_name_is_refused_so_that_a_rebound_page_reads_nothing(web: TestClient, host: str) -> None:
    for path in ("/v1/jobs", "/openapi.json", "/nowhere"):
        answer = web.get(path, headers={"host": host})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/v1/jobs/%00", "/v1/jobs/x/artifacts/a%00b", "/v1/jobs?model=%00", "/v1/jobs?label=a:%00", "/v1/jobs?cursor=%00"]
)
def test_zero_byte_that_no_database_would_take_is_refused(web: TestClient, path: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, answer.json()["type"]) == (400, "bad-request")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9999", "null"])
def test_write_from_a_page_of_another_site_is_refused(web: TestClient, origin: str) -> None:
    answer = web.post("/v1/jobs/some-job/cancel", headers={"origin": origin})
    assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")


def test_write_from_a_page_of_this_service_goes_on(web: TestClient) -> None:
    answer = web.post("/v1/jobs/some-job/cancel", headers={"origin": "http://127.0.0.1:8321"})
    assert answer.json()["type"] == "job-not-found"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_body_that_a_form_could_send_is_refused(web: TestClient, content_type: str) -> None:
    answer = web.post("/v1/jobs", content=b"{}", headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["type"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize("method", ["TRACE", "QUERY"])
def test_method_that_no_route_has_is_refused_as_such_whatever_its_body(web: TestClient, method: str) -> None:
    answer = web.request(method, "/v1/jobs", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["type"]) == (405, "method-not-allowed")


def test_method_that_a_path_for_files_has_not_is_refused_as_such(web: TestClient) -> None:
    answer = web.put("/v1/datasets", content=b"{}", headers={"content-type": "application/jsonl"})
    assert answer.status_code == 405


def test_large_body_is_refused_by_its_announced_length(web: TestClient) -> None:
    answer = web.post("/v1/jobs", content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (413, "content-too-large")
    assert answer.headers["content-type"] == "application/problem+json"


def test_large_body_without_a_length_is_refused_while_it_arrives(web: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 65536
            yield b" " * 65536

    answer = web.post("/v1/jobs", content=endless(), headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (413, "content-too-large")
