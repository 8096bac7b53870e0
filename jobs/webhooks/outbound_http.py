"""A request to an address that a user gave: to the very address that was checked, bounded in time and size.

Below `httpx`, on its own transport library: there are no redirects to follow, no proxies or passwords in the environment, no
cookies and no decompression here, so none has to be switched off.
"""

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore

from jobs.webhooks.outbound import LookUp, OutboundPolicy, Target, system_look_up

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0
MAX_ADDRESSES = 3  # that are tried one after another
MAX_BODY_BYTES = 2048  # that are read of an answer

Send = Callable[[str, Mapping[str, str], bytes], "Reply"]


class OutboundFailed(Exception):
    """Nobody answered in time, or not in HTTP."""


@dataclass(frozen=True)
class Reply:
    """An answer. Args: body: its beginning."""

    status: int
    body: bytes


class Outbound:
    """Sends requests within a policy. Safe to use from several threads."""

    def __init__(
        self,
        policy: OutboundPolicy,
        look_up: LookUp = system_look_up,
        context: ssl.SSLContext | None = None,
        timeout_s: float = TOTAL_TIMEOUT_S,
    ) -> None:
        self._policy, self._look_up, self._timeout_s = policy, look_up, timeout_s
        self._context = context or _trusting_system_and_bundle()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send a body once. A redirect is an answer like any other.

        Raises: UrlRefused: the policy does not allow it. OutboundFailed.
        """
        target = self._policy.parse(url)
        backend = _CheckedBackend(self._policy, self._look_up, target, _Clock(self._timeout_s))
        where = httpcore.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        )
        named = {"Host": target.authority, "Accept-Encoding": "identity", "Connection": "close", **headers}
        limits = {"connect": CONNECT_TIMEOUT_S, "read": self._timeout_s, "write": self._timeout_s, "pool": self._timeout_s}
        try:
            with (
                httpcore.ConnectionPool(ssl_context=self._context, max_connections=1, network_backend=backend) as pool,
                pool.stream("POST", where, headers=list(named.items()), content=body, extensions={"timeout": limits}) as reply,
            ):
                return Reply(reply.status, _beginning(reply.iter_stream()))
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise OutboundFailed(f"{type(error).__name__}: {error}"[:500]) from error


class _Clock:
    """What is left of the time for the whole exchange."""

    def __init__(self, timeout_s: float) -> None:
        self._until = time.monotonic() + timeout_s
        self._timeout_s = timeout_s

    def left_s(self, wanted_s: float | None) -> float:
        """Raises: httpcore.ReadTimeout: nothing is."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout(f"not done within {self._timeout_s:g} s")
        return left_s if wanted_s is None else min(left_s, wanted_s)


class _TimedStream(httpcore.NetworkStream):
    """A connection on which no step takes longer than what is left of the whole: bytes that drip in do not stretch it."""

    def __init__(self, inner: httpcore.NetworkStream, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._clock.left_s(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._clock.left_s(timeout))
        return _TimedStream(inner, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to the target's checked addresses and to nothing else; TLS and `Host` still have its name."""

    def __init__(self, policy: OutboundPolicy, look_up: LookUp, target: Target, clock: _Clock) -> None:
        self._policy, self._look_up, self._target, self._clock = policy, look_up, target, clock
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        assert (host, port) == (self._target.host, self._target.port), "the pool goes where it was told to"
        try:
            addresses = self._policy.resolve(self._target, self._look_up)
        except OSError as error:
            raise httpcore.ConnectError("the host's name cannot be looked up") from error
        failure: Exception | None = None
        for address in addresses[:MAX_ADDRESSES]:
            try:
                limit_s = self._clock.left_s(timeout)
                stream = self._inner.connect_tcp(str(address), port, limit_s, local_address, socket_options)
                return _TimedStream(stream, self._clock)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None, "there is at least one address"
        raise failure


def _beginning(chunks: Iterable[bytes]) -> bytes:
    body = b""
    for chunk in chunks:
        body += chunk
        if len(body) >= MAX_BODY_BYTES:
            break
    return body[:MAX_BODY_BYTES]


def _trusting_system_and_bundle() -> ssl.SSLContext:
    """The well-known authorities, and those that the operator has given to this system."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context
