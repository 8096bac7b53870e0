"""Addresses under which anybody may read one object of a bucket for a while: S3's Signature Version 4, in the query.

obstore signs too, but not the parameters that name the downloaded file, and always for the address that it uses itself.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from jobs.settings import Settings

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_EXPIRES_S = 7 * 24 * 3600  # S3 refuses more


@dataclass(frozen=True)
class Presigner:
    """Signs for one bucket. Args: endpoint: as users reach it. prefix: of every key, without slashes at its ends."""

    endpoint: str
    bucket: str
    prefix: str
    region: str
    access_key: str
    secret_key: SecretStr

    def url(self, key: str, expires_s: int, answer_headers: Mapping[str, str], now: datetime | None = None) -> str:
        """An address for GET (or a range of it).

        Args: answer_headers: what the store is to answer with, by parameter, such as `response-content-type`.
        """
        at = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{at[:8]}/{self.region}/s3/aws4_request"
        parameters = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": at,
            "X-Amz-Expires": str(max(1, min(expires_s, MAX_EXPIRES_S))),
            "X-Amz-SignedHeaders": "host",
            **answer_headers,
        }
        query = "&".join(f"{quote(name, safe='')}={quote(parameters[name], safe='')}" for name in sorted(parameters))
        base = urlsplit(self.endpoint.rstrip("/"))
        path = quote("/".join(filter(None, (base.path, self.bucket, self.prefix, key))), safe="/~")
        path = path if path.startswith("/") else f"/{path}"
        request = "\n".join(("GET", path, query, f"host:{base.netloc}", "", "host", "UNSIGNED-PAYLOAD"))
        signature = self._signature(at, scope, request)
        return f"{base.scheme}://{base.netloc}{path}?{query}&X-Amz-Signature={signature}"

    def _signature(self, at: str, scope: str, request: str) -> str:
        key = f"AWS4{self.secret_key.get_secret_value()}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = "\n".join((ALGORITHM, at, scope, hashlib.sha256(request.encode()).hexdigest()))
        return hmac.digest(key, to_sign.encode(), "sha256").hex()


def presigner(settings: Settings) -> Presigner | None:
    """None where users cannot reach the store, or nobody named the keys to sign with."""
    url = urlsplit(settings.artifact_url)
    key, secret = settings.artifact_access_key, settings.artifact_secret_key
    if url.scheme != "s3" or settings.artifact_public_endpoint is None or key is None or secret is None:
        return None
    return Presigner(
        endpoint=settings.artifact_public_endpoint,
        bucket=url.netloc,
        prefix=url.path.strip("/"),
        region=settings.artifact_region or "us-east-1",
        access_key=key.get_secret_value(),
        secret_key=secret,
    )
