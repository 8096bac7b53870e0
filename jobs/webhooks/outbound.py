"""Where this service may go because a user said so: the one place that decides about URLs which users give.

A URL is taken apart here once, strictly, and never by a second parser. Its host is looked up once for each connection, every
address that comes back must be public (or in a network that the operator allows), and the connection goes to one of these very
addresses (`jobs/webhooks/outbound_http.py`): a name that answers differently a moment later gains nothing.

Addresses of the hub, the store, the broker and the database are the operator's, in settings, and are not judged here.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Self
from urllib.parse import urlsplit

from jobs.errors import UrlRefused
from jobs.settings import Settings

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
LookUp = Callable[[str, int], Sequence[str]]

MAX_URL = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}
NOT_PUBLIC = "its host leads to an address that is not public"

_VISIBLE = re.compile(r"[!-~]+")  # ASCII: an international name is given in its xn-- form, so nothing is left to normalise
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK_NAMES = ("localhost", "localhost.localdomain")
_UNICAST = IPv6Network("2000::/3")
# Addresses inside of which others hide (6to4 and Teredo; NAT64's are not in 2000::/3), and what older tables call public.
_NEVER = (
    IPv6Network("2002::/16"),
    IPv6Network("2001::/23"),
    IPv6Network("3fff::/20"),  # documentation
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network("168.63.129.16/32"),  # a cloud's own services, on every one of its machines
)


@dataclass(frozen=True)
class Target:
    """A URL, taken apart. Args: host: a lower-case name or an address, without brackets. path: with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class OutboundPolicy:
    """What the operator allows. Args: networks: that may be reached though they are not public."""

    allows_http: bool = False
    ports: frozenset[int] = frozenset({443})
    networks: tuple[IpNetwork, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.webhook_allow_http, frozenset(settings.webhook_ports), settings.webhook_allowed_networks)

    def parse(self, url: str) -> Target:
        """Take a URL apart; an address in it is judged, a name is not looked up. Raises: UrlRefused."""
        if len(url) > MAX_URL:
            raise UrlRefused(f"it is longer than {MAX_URL} characters")
        if not _VISIBLE.fullmatch(url) or "\\" in url:
            raise UrlRefused("it holds something else than visible ASCII characters; give international names as xn--...")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UrlRefused("it is no URL") from error
        if parts.scheme not in (("https", "http") if self.allows_http else ("https",)):
            raise UrlRefused("its scheme must be https")
        if "@" in parts.netloc:
            raise UrlRefused("it must not hold a user or a password")
        if "#" in url:
            raise UrlRefused("it must not hold a fragment")
        port = DEFAULT_PORTS[parts.scheme] if port is None else port
        if port not in self.ports:
            raise UrlRefused(f"port {port} is not allowed; allowed: {', '.join(map(str, sorted(self.ports)))}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(parts.scheme, self._host(parts.netloc), port, path)

    def resolve(self, target: Target, look_up: LookUp) -> Sequence[IpAddress]:
        """Every address of the host, each of them fit to be reached.

        Raises: UrlRefused: one is not. OSError: the host cannot be looked up.
        """
        try:
            found = [ip_address(text) for text in dict.fromkeys(look_up(target.host, target.port))]
        except ValueError as error:  # with a zone that is no plain address, say
            raise UrlRefused(NOT_PUBLIC) from error
        if not found or not all(map(self.allows, found)):
            raise UrlRefused(NOT_PUBLIC)
        return found

    def allows(self, address: IpAddress) -> bool:
        """Whether it may be reached: public, or in a network that the operator named."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        if any(address in network for network in self.networks):
            return True
        if isinstance(address, IPv6Address) and address not in _UNICAST:
            return False
        if any(address in network for network in _NEVER):
            return False
        return address.is_global and not address.is_multicast and not address.is_reserved

    def _host(self, netloc: str) -> str:
        """Exactly a name, four decimal bytes, or a bracketed IPv6 address; other spellings of addresses are none."""
        if netloc.startswith("["):
            literal = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?", netloc)
            return self._address(literal[1] if literal else "", is_plain=literal is not None)
        host = netloc.partition(":")[0].lower()
        if re.fullmatch(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", host):  # what a browser takes for a number
            return self._address(host, host.count(".") == 3)
        if not _NAME.fullmatch(host):
            raise UrlRefused("its host is no name of a host, nor an address")
        if not self.networks and (host in _LOOPBACK_NAMES or host.endswith(".localhost")):
            raise UrlRefused(NOT_PUBLIC)
        return host

    def _address(self, text: str, is_plain: bool) -> str:
        try:
            address = ip_address(text) if is_plain else None
        except ValueError:
            address = None
        if address is None:
            raise UrlRefused("its host is no address in the usual notation")
        if not self.allows(address):
            raise UrlRefused(NOT_PUBLIC)
        return str(address)


def system_look_up(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver. Raises: OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]
