"""Requests to URLs that callers name: what such a URL may reach, and how one request is sent there.

A caller must not reach through the service what the service can reach and the caller cannot (server-side request
forgery). So a name is resolved once, every address that it has must be allowed, and the connection goes to one of the
addresses that were looked at, while TLS and the Host header keep the name. No redirect is followed, no proxy of the
environment is used, and of the answer only its status and Retry-After are kept.

A public address is allowed, by https on port 443 or 8443. Whatever lies in one of the operator's own `networks` is
allowed by http too, on any port.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

PORTS = (443, 8443)
MAX_URL = 1_000
#: Of the answer's body so many bytes are read, and dropped: a receiver may send a few words, and see them taken.
MAX_ANSWER = 64 << 10

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]
#: Resolves as `socket.getaddrinfo` does.
Resolve = Callable[..., Sequence[tuple[Any, ...]]]

_HOST = re.compile(r"[a-z0-9_][a-z0-9._-]*|[0-9a-f:.]*:[0-9a-f:.]*")
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all other IPv6 addresses are local, mapped, translated or multicast
#: Blocks within global unicast that lead elsewhere than they seem to, although `is_global` may admit them.
_SPECIAL = [
    ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays to 6to4
        "192.175.48.0/24",  # AS112
        "2001::/23",  # protocol assignments, among them Teredo
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]


class Refused(Exception):
    """The URL is none that a request may be sent to; the message says why, and what is allowed."""


class NoAnswer(Exception):
    """The request brought no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of an answer.

    Attributes:
        status: its status.
        retry_after: the seconds that it asks to wait before another try.
    """

    status: int
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class _Target:
    secure: bool
    host: str
    port: int
    path: str


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet, and of no special purpose."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in block for block in _SPECIAL)


def check_url(url: str, networks: Networks) -> None:
    """Refuse a URL to which no request could ever be sent. A name is not resolved: that is for `post` to do.

    Raises:
        Refused: it is none that a request may be sent to.
    """
    target = _read(url)
    try:
        address = ip_address(target.host)
    except ValueError:
        if not networks:  # otherwise the name may lead into one
            _check_public(target)
        return
    _check_address(target, address, networks)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    networks: Networks,
    *,
    seconds: float = 15,
    resolve: Resolve = socket.getaddrinfo,
) -> Answer:
    """Send a POST request and return what is kept of the answer.

    Args:
        url: where to.
        body: the request's body.
        headers: the headers that it has besides Host and Content-Length.
        networks: the operator's own networks, which may be reached.
        seconds: the time for all but the name's resolution, which takes what the system's resolver gives it.
        resolve: finds a host's addresses.

    Raises:
        Refused: the URL is none that a request may be sent to.
        NoAnswer: no answer came.
    """
    target = _read(url)
    try:
        found = resolve(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NoAnswer(f"the name {target.host} cannot be resolved") from None
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    for address in addresses:
        _check_address(target, ip_address(address), networks)
    ends = time.monotonic() + seconds
    try:
        with _connected(list(addresses), target.port, ends) as connection:
            return _exchange(connection, target, body, headers)
    except (OSError, HTTPException, ValueError) as error:  # TLS says ValueError of names that it does not take
        if time.monotonic() >= ends:
            raise NoAnswer(f"no answer within {seconds:g} s") from None
        raise NoAnswer(f"no answer: {str(error) or type(error).__name__}") from None


def _read(url: str) -> _Target:
    """Take a URL apart.

    Only what is returned here is checked and used, so that no other reader of the URL can find another host in it.
    """
    if not re.fullmatch(rf"[!-~]{{1,{MAX_URL}}}", url):
        raise Refused(f"a URL of 1 to {MAX_URL:,} printable ASCII characters without spaces is needed here")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise Refused("this is not a URL: its host or its port cannot be read") from None
    if parts.scheme not in ("https", "http"):
        raise Refused("a URL that begins with https:// is needed here")
    if "@" in parts.netloc:
        raise Refused("the URL must hold neither a user's name nor a password; the signature tells who sends")
    if not host or not _HOST.fullmatch(host):
        raise Refused("the URL's host must be a name in ASCII (an international one in its xn-- form) or an address")
    if "#" in url:
        raise Refused("the URL must have no fragment: it would not be sent")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(secure, host, port if port is not None else 443 if secure else 80, path)


def _check_address(target: _Target, address: Address, networks: Networks) -> None:
    if any(address in network for network in networks):
        return
    if not is_public(address):
        raise Refused("the URL's host is not, or not only, at public addresses")
    _check_public(target)


def _check_public(target: _Target) -> None:
    if not target.secure:
        raise Refused("a URL that begins with https:// is needed here")
    if target.port not in PORTS:
        raise Refused(f"the URL's port must be {' or '.join(map(str, PORTS))}, and is {target.port}")


@contextlib.contextmanager
def _connected(addresses: Sequence[str], port: int, ends: float) -> Iterator[socket.socket]:
    """Connect to the first address that lets us, and cut the connection off at the time `ends`.

    A time limit of the socket would bound each wait, and not their sum: a receiver could send a byte now and then.
    """
    connection, failure = None, OSError("the name has no address")
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            # An address that swallows packets leaves time for the others.
            share = max((ends - time.monotonic()) / left, 0.001)
            connection = socket.create_connection((address, port), share)
            break
        except OSError as error:
            failure = error
    if connection is None:
        raise failure
    connection.settimeout(None)
    # Another handle on the same connection: TLS takes the first one over.
    with connection, connection.dup() as handle:
        watch = threading.Timer(ends - time.monotonic(), _cut_off, (handle,))
        watch.start()
        try:
            yield connection
        finally:
            watch.cancel()
            watch.join()


def _cut_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _exchange(connection: socket.socket, target: _Target, body: bytes, headers: Mapping[str, str]) -> Answer:
    http: HTTPConnection
    if target.secure:
        context = ssl.create_default_context()
        http = HTTPSConnection(target.host, target.port, context=context)
        http.sock = context.wrap_socket(connection, server_hostname=target.host)
    else:
        http = HTTPConnection(target.host, target.port)
        http.sock = connection
    with contextlib.closing(http):
        http.request("POST", target.path, body, {**headers, "Connection": "close"})
        response = http.getresponse()
        with response:
            answer = Answer(response.status, _seconds_to_wait(response.headers.get("Retry-After")))
            with contextlib.suppress(OSError, HTTPException):  # what matters has arrived
                response.read(MAX_ANSWER)
    return answer


def _seconds_to_wait(retry_after: str | None) -> float | None:
    """Return what a Retry-After header asks for, in seconds or as a date; None for one that cannot be read."""
    if retry_after is None:
        return None
    if re.fullmatch("[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):  # the latter of a year that no integer of C holds
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
