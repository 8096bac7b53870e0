import pytest
from fastapi.testclient import TestClient

from compression.formats.catalog import FORMATS
from compression.formats.refusals import WISHES


def test_every_format_is_listed_with_what_it_refuses(web: TestClient) -> None:
    listed = {entry["name"]: entry for entry in web.get("/v1/formats").json()}
    assert listed.keys() == FORMATS.keys()
    dense = listed["dense"]
    assert (dense["loads_in"], dense["refuses"]) == (["transformers", "vLLM"], {})
    assert dense["content"] == FORMATS["dense"].content
    for entry in listed.values():
        assert entry["refuses"].keys() < WISHES.keys(), "it must grant something"


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_listed_as_refused_is_refused_at_submit_in_the_same_words(web: TestClient, name: str) -> None:
    (listed,) = (entry for entry in web.get("/v1/formats").json() if entry["name"] == name)
    for wish, recipe in WISHES.items():
        answer = web.post("/v1/jobs", json={"model": "a/b", "recipe": recipe, "output": {"format": name}})
        if wish in listed["refuses"]:
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["detail"].endswith(listed["refuses"][wish])
        else:
            assert answer.status_code == 202, answer.text
