"""Where users' URLs may lead: public https addresses, and nowhere by another spelling, name or second answer."""

import re
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import UrlRefused
from jobs.settings import Settings
from jobs.webhooks.outbound import IpNetwork, LookUp, OutboundPolicy
from jobs.webhooks.outbound_http import MAX_BODY_BYTES, Outbound, OutboundFailed
from tests.jobs.webhooks.receiver import Receiver, answering, receiving

STRICT = OutboundPolicy()
LOOPBACK = ip_network("127.0.0.0/8")

HOSTILE = [
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://127.000.000.001/",
    "https://0.0.0.0/",
    "https://0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://100.100.100.200/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/machine",
    "https://192.88.99.1/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:db8::1]/",
    "https://[3fff::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2606:4700::1%eth0]/",
    "https://[fd00:ec2::254]/",
    "https://[ff02::1]/",
    "https://[::1]example.com/",
    "https://[2606:4700::1]@[::1]/",
    "https://[example.com]/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://db.localhost/",
    "https://example.com./",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com#@127.0.0.1/",
    "https://example.com/#fragment",
    "https://example.com:22/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:443:80/",
    "https://example.com:x/",
    "https:///path",
    "https:example.com",
    "//example.com/",
    "http://example.com/",
    "gopher://example.com/",
    "file:///etc/passwd",
    "ftp://example.com/",
    "https://exa mple.com/",
    "https://example.com/\r\nHost: other",
    "https://example.com/\t",
    " https://example.com/",
    "https://example.com/\0",
    "https://１２７.０.０.１/",
    "https://①②⑦.⓪.⓪.①/",
    "https://ⓔxample.com/",
    "https://example。com/",
    "https://münchen.de/",
    "https://exam%70le.com/",
    "https://-example.com/",
    "https://example..com/",
    "https://" + "a" * 64 + ".com/",
    "https://example.com/" + "a" * 2048,
    "",
]


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: ascii(url)[:50])
def test_hostile_url_is_refused_before_anything_is_looked_up(url: str) -> None:
    with pytest.raises(UrlRefused):
        STRICT.parse(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://hooks.example.com", "hooks.example.com", 443, "/", "hooks.example.com"),
        ("https://Hooks.Example.COM:/a/b?c=d&e", "hooks.example.com", 443, "/a/b?c=d&e", "hooks.example.com"),
        ("https://example.com:8443/%2e%2e?", "example.com", 8443, "/%2e%2e", "example.com:8443"),
        ("https://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de", 443, "/", "xn--mnchen-3ya.de"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, "/", "[2606:4700::1111]:8443"),
        ("https://1password.example.com/", "1password.example.com", 443, "/", "1password.example.com"),
    ],
)
def test_plain_url_is_taken_apart(url: str, host: str, port: int, path: str, authority: str) -> None:
    target = OutboundPolicy(ports=frozenset({443, 8443})).parse(url)
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["2606:4700::1", "::1"], ["fe80::1%eth0"], ["::ffff:8.8.8.8"], [], ["nonsense"]],
    ids=str,
)
def test_name_is_refused_when_any_of_its_addresses_is_not_public(found: list[str]) -> None:
    with pytest.raises(UrlRefused) as caught:
        STRICT.resolve(STRICT.parse("https://metadata.google.internal/"), lambda host, port: found)
    assert not [address for address in found if address in str(caught.value)], "it would tell of names inside"


def test_networks_that_the_operator_allows_are_reached_and_no_others() -> None:
    settings = Settings.from_mapping(
        {"SCALPEL_WEBHOOK_ALLOWED_NETWORKS": "10.1.0.0/16, fd00:1::/32", "SCALPEL_WEBHOOK_PORTS": "443,8443"}
    )
    policy = OutboundPolicy.of(settings)
    assert policy.ports == {443, 8443}
    for address, is_allowed in [("10.1.2.3", True), ("10.2.0.1", False), ("fd00:1::1", True), ("fd00:2::1", False)]:
        assert policy.allows(ip_address(address)) is is_allowed, address
    assert policy.parse("https://10.1.2.3/").host == "10.1.2.3"


def local(receiver: Receiver, *networks: IpNetwork) -> OutboundPolicy:
    return OutboundPolicy(allows_http=True, ports=frozenset({receiver.port}), networks=networks or (LOOPBACK,))


def always(address: str) -> LookUp:
    return lambda host, port: [address]


def test_request_goes_to_the_address_that_was_checked_under_its_own_name() -> None:
    with receiving("127.0.0.2") as receiver:
        url = f"http://hooks.example.com:{receiver.port}/a?b=c"
        reply = Outbound(local(receiver), always("127.0.0.2")).post(url, {"X-Ours": "1"}, b"body")
    (got,) = receiver.received
    assert (reply.status, got.path, got.body) == (200, "/a?b=c", b"body")
    assert (got.headers["host"], got.headers["x-ours"]) == (f"hooks.example.com:{receiver.port}", "1")


def test_name_that_answers_differently_after_the_check_gains_nothing() -> None:
    """127.0.0.2 stands for the public address; on 127.0.0.1 is what nobody may reach."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]])

    def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    with receiving("127.0.0.1") as inside:
        outbound = Outbound(local(inside, ip_network("127.0.0.2/32")), rebinding)
        url = f"http://rebinding.example.com:{inside.port}/"
        with pytest.raises(OutboundFailed, match="refused"):  # by 127.0.0.2, where nothing listens
            outbound.post(url, {}, b"")
        with pytest.raises(UrlRefused):
            outbound.post(url, {}, b"")
    assert inside.received == []


def test_redirect_is_an_answer_and_not_followed() -> None:
    with receiving() as inside, receiving("127.0.0.2") as outside:
        outside.answer = answering(302, Location=inside.url)
        reply = Outbound(local(outside), always("127.0.0.2")).post(f"http://a.example:{outside.port}/", {}, b"")
    assert (reply.status, inside.received) == (302, [])


def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving("127.0.0.2") as outside:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        Outbound(local(outside), always("127.0.0.2")).post(f"http://a.example:{outside.port}/", {}, b"")
    assert (len(outside.received), proxy.received) == (1, [])


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.02)


def test_answer_that_drips_in_ends_with_the_time_for_the_whole() -> None:
    with receiving() as receiver:
        receiver.answer = drip
        began = time.monotonic()
        with pytest.raises(OutboundFailed, match=r"not done within 0\.5 s|timed out"):
            Outbound(local(receiver), timeout_s=0.5).post(receiver.url, {}, b"")
        assert time.monotonic() - began < 5  # in all it would be 20


def test_only_the_beginning_of_an_answer_is_read() -> None:
    with receiving() as receiver:
        receiver.answer = answering(500, b"x" * 10_000_000)
        reply = Outbound(local(receiver)).post(receiver.url, {}, b"")
    assert (reply.status, reply.body) == (500, b"x" * MAX_BODY_BYTES)


def certificate(name: str, folder: Path) -> Path:
    """A file with a key and a certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def test_certificate_is_checked_against_the_name_though_the_connection_goes_to_an_address(tmp_path: Path) -> None:
    pem = certificate("hooks.example.com", tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    with receiving(context=serving) as receiver:
        outbound = Outbound(local(receiver), always("127.0.0.1"), ssl.create_default_context(cafile=str(pem)))
        assert outbound.post(f"https://hooks.example.com:{receiver.port}/", {}, b"x").status == 200
        with pytest.raises(OutboundFailed, match="CERTIFICATE_VERIFY_FAILED"):
            outbound.post(f"https://other.example.com:{receiver.port}/", {}, b"x")
        with pytest.raises(OutboundFailed, match="CERTIFICATE_VERIFY_FAILED"):
            Outbound(local(receiver), always("127.0.0.1")).post(f"https://hooks.example.com:{receiver.port}/", {}, b"x")
    assert len(receiver.received) == 1


PIECES = st.sampled_from([
    "https", "http", "HTTPS", ":", "//", "/", "\\", "@", "#", "?", "[", "]", "%", ".", "..", "127.0.0.1", "::1", "localhost",
    "0x7f", "example.com", "a", "1", "443", ":443", "%00", "%2f", "\t", "\n", "\0", " ", "ⓔ", "。", "xn--", "-", "_",
    "::ffff:1.2.3.4",
])  # fmt: skip
LIKELY = st.from_regex(r"https://[a-z0-9._\[\]:@%-]{1,20}(:443)?(/[!-~]*)?", fullmatch=True)


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join), LIKELY))
def test_url_is_refused_or_read_as_others_read_it(url: str) -> None:
    try:
        target = STRICT.parse(url)
    except UrlRefused:
        return
    other = httpx.URL(url)
    assert (other.scheme, other.raw_host.decode(), other.port or 443) == (target.scheme, target.host, target.port)
    assert other.userinfo == b""
    assert re.fullmatch(r"[0-9a-z._:\[\]-]+", target.authority)
    assert re.fullmatch(r"/[!-~]*", target.path) or target.path == "/"
