"""What must not stand in a log, and what may."""

import pytest

from jobs.watching.redaction import HIDDEN, redact

KEY = "scalpel_" + "aB3-_" * 8 + "xyz"
HUB = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        (f"key {KEY} opened", KEY[8:]),
        (f"token={HUB}", HUB[3:]),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (f"Authorization: Bearer {KEY}", KEY[8:]),
        ("authorization: Basic c2NhbHBlbDp4", "c2NhbHBlbDp4"),
        ("{'Authorization': 'Bearer abcdefghij'}", "abcdefghij"),
        ('"authorization":"Token-abcdefghij"', "Token-abcdefghij"),
        ("headers: bearer abc.def-ghi", "abc.def-ghi"),
        ("postgresql+psycopg://scalpel:p@ss:word@db/scalpel failed", "p@ss:word"),
        ("redis+socket://:pass-word@/run/valkey.sock", "pass-word"),
        ("https://user:secretword@example.org/x?y=1", "secretword"),
        ("https://s3/x?X-Amz-Expires=9&X-Amz-Signature=0badcafe&z=1", "0badcafe"),
        ("SCALPEL_SECRET_KEYS=AAAA,BBBB", "BBBB"),
        ("SCALPEL_ARTIFACT_SECRET_KEY: abc", "abc"),
    ],
)
def test_secret_is_taken_out_of_a_line(line: str, secret: str) -> None:
    clean = redact(line)
    assert secret not in clean
    assert HIDDEN in clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "line",
    [
        "job 01M83MEDB5ME2A8FP9H1VA9R8M: attempt 1 of 3 begins",
        "GET http://127.0.0.1:8321/v1/jobs?limit=2 -> 200",
        "file:///srv/scalpel/artifacts is full",
        "fetching hf_model.json of owner/name@main from https://huggingface.co",
        "scalpel_api of worker.py",
        "git@example.org:path",
        "https://example.org:8443/a@b",
        "the bearer of bad news",
    ],
)
def test_ordinary_words_stay(line: str) -> None:
    assert redact(line) == line
