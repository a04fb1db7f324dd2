"""What a URL that a caller names may reach, against real servers and every special block of addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.receivers import Receiver, answers, receiver

from chainrule_service.egress import MAX_ANSWER, Answer, NoAnswer, Refused, check_url, is_public, post

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
#: IANA's registries of special-purpose addresses for IPv4 and IPv6, what is multicast, and what was given back.
SPECIAL = """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    255.255.255.255/32
    ::/128 ::1/128 ::/96 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32
    2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28
    2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
""".split()  # noqa: SIM905  # a list of so many would hide them
#: On both sides of such blocks, and well-known ones.
PUBLIC = """
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.32.0.1 192.0.1.1 223.255.255.254 2001:200::1 2606:4700::1111 2a00::1
""".split()  # noqa: SIM905


@st.composite
def special_addresses(draw: st.DrawFn) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    network = ipaddress.ip_network(draw(st.sampled_from(SPECIAL)))
    return network[draw(st.integers(0, network.num_addresses - 1))]


@given(special_addresses())
def test_no_special_address_is_public(address: Any):
    assert not is_public(address)


@pytest.mark.parametrize("block", SPECIAL)
def test_the_ends_of_special_blocks_are_not_public(block: str):
    network = ipaddress.ip_network(block)
    assert not is_public(network[0])
    assert not is_public(network[-1])


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str):
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_in_another_form_is_no_way_round(inner: Any):
    """IPv4 addresses mapped, translated (NAT64) and tunnelled (6to4) into IPv6."""
    number = int(inner)
    for outer in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1):
        assert not is_public(ipaddress.IPv6Address(outer))


# ---------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org:443/hook?to=me&x=%20",
        "https://EXAMPLE.org:8443/",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8443/hook",
    ],
)
def test_urls_that_may_be_named(url: str):
    check_url(url, ())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/", "https://"),
        ("ftp://example.org/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("//example.org/", "https://"),
        ("example.org", "https://"),
        ("", "1 to 1,000"),
        ("https://example.org/" + "a" * 1000, "1 to 1,000"),
        ("https://example.org/\r\nHost: other", "printable"),
        ("https://exa\tmple.org/", "printable"),
        ("https://bücher.example/", "printable"),
        ("https://user@example.org/", "user's name"),
        ("https://user:secret@example.org/", "user's name"),
        ("https://public.example\\@127.0.0.1/", "user's name"),
        ("https:///hook", "host"),
        ("https://.example.org/", "host"),
        ("https://%31%32%37.0.0.1/", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://[::1/", "cannot be read"),
        ("https://example.org:port/", "cannot be read"),
        ("https://example.org:65536/", "cannot be read"),
        ("https://example.org:22/", "port must be 443 or 8443"),
        ("https://example.org:0/", "port must be 443 or 8443"),
        ("https://example.org/#part", "fragment"),
        ("https://127.0.0.1/", "public"),
        ("https://169.254.169.254/latest/meta-data", "public"),
        ("https://[::1]/", "public"),
        ("https://[::ffff:10.0.0.1]/", "public"),
        ("https://[64:ff9b::7f00:1]/", "public"),
    ],
)
def test_urls_that_may_not(url: str, words: str):
    with pytest.raises(Refused, match=words):
        check_url(url, ())


def test_the_operators_own_networks():
    check_url("http://127.0.0.1:8000/", LOOPBACK)
    check_url("http://receiver.internal:8000/", LOOPBACK)  # perhaps it is in there
    with pytest.raises(Refused, match="public"):
        check_url("http://10.0.0.1:8000/", LOOPBACK)
    with pytest.raises(Refused, match="https"):
        check_url("http://8.8.8.8/", LOOPBACK)


@given(st.text(max_size=60) | st.text(max_size=40).map("https://{}".format))
def test_any_text_is_taken_or_refused(url: str):
    with contextlib.suppress(Refused):
        check_url(url, ())


# ------------------------------------------------------------------------------------------------------------ requests


def resolver(*addresses: str) -> Any:
    """Return what resolves every name to the same addresses."""

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(None, None, None, "", (address, port)) for address in addresses]

    return resolve


def test_a_request_and_what_is_kept_of_its_answer():
    with receiver(answers(503, headers={"Retry-After": "7", "Location": "/other"})) as there:
        url = there.url.replace("127.0.0.1", "receiver.internal") + "?to=me"
        answer = post(url, b"{}", {"webhook-id": "msg_1"}, LOOPBACK, resolve=resolver("127.0.0.1"))
    assert answer == Answer(503, 7.0)
    [(path, headers, body)] = there.requests
    assert (path, body) == ("/hook?to=me", b"{}")
    assert headers["host"] == url.split("/")[2]
    assert headers["webhook-id"] == "msg_1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(status: int):
    with receiver(answers(200)) as elsewhere, receiver(answers(status, headers={"Location": elsewhere.url})) as there:
        assert post(there.url, b"{}", {}, LOOPBACK).status == status
    assert len(there.requests) == 1
    assert not elsewhere.requests


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    with receiver(answers(200)) as proxy, receiver(answers(204)) as there:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(there.url, b"{}", {}, LOOPBACK).status == 204
    assert not proxy.requests


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8"), ("::ffff:127.0.0.1",), ("fe80::1%lo",)],
)
def test_every_address_of_a_name_must_be_public(addresses: tuple[str, ...]):
    with pytest.raises(Refused, match="public addresses"):
        post("https://name.example/", b"{}", {}, (), resolve=resolver(*addresses))


@pytest.mark.parametrize("url", ["https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://localhost/"])
def test_other_words_for_loopback(url: str):
    """The system's resolver understands them; what it makes of them is what is looked at."""
    with pytest.raises(Refused, match="public addresses"):
        post(url, b"{}", {}, ())


def test_a_name_is_resolved_once():
    """Rebinding: a name that is harmless when it is looked at and another host's when it is connected to."""
    first, second = "127.0.0.1", "127.0.0.2"
    allowed = (ipaddress.ip_network(f"{first}/32"),)
    asked = []

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(None, None, None, "", (first if len(asked) == 1 else second, port))]

    with receiver(answers(200), host=first) as there:
        port = int(there.url.split(":")[2].split("/")[0])
        assert post(f"http://name.example:{port}/", b"{}", {}, allowed, resolve=resolve).status == 200
        with pytest.raises(Refused):
            post(f"http://name.example:{port}/", b"{}", {}, allowed, resolve=resolve)
    assert len(asked) == 2
    assert len(there.requests) == 1


def test_the_next_address_is_tried_when_one_refuses():
    with receiver(answers(200), host="127.0.0.2") as there:
        url = there.url.replace("127.0.0.2", "name.example")
        assert post(url, b"{}", {}, LOOPBACK, resolve=resolver("127.0.0.1", "127.0.0.2")).status == 200


def test_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NoAnswer, match="refused"):
        post(f"http://127.0.0.1:{port}/", b"{}", {}, LOOPBACK)
    with pytest.raises(NoAnswer, match="no address"):
        post(f"http://name.example:{port}/", b"{}", {}, LOOPBACK, resolve=resolver())


def test_a_name_that_cannot_be_resolved():
    for host in ("name.invalid", "a" * 64 + ".example"):
        with pytest.raises(NoAnswer, match="cannot be resolved"):
            post(f"https://{host}/", b"{}", {}, ())


@pytest.fixture
def talker() -> Iterator[Any]:
    """Run a server that sends pieces of an answer, one after the other, whatever it is sent, and then falls silent."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    server = socket.create_server(("127.0.0.1", 0))

    def start(pieces: Iterator[bytes], pause: float = 0) -> str:
        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        if stop.wait(pause):
                            return
                    stop.wait(60)
                except OSError:
                    pass  # the service hung up

        threads.append(threading.Thread(target=talk))
        threads[-1].start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    server.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"H"] * 600,
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 600,
    ],
    ids=["silent", "slow line", "never beyond 100"],
)
def test_a_slow_answer_is_cut_off(talker: Any, pieces: list[bytes]):
    """Each piece is in time; the answer is not."""
    url = talker(iter(pieces), pause=0.05)
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="within 1 s"):
        post(url, b"{}", {}, LOOPBACK, seconds=1)
    assert time.monotonic() - began < 15  # the pieces take twice as long


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 600],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"."] * 600],
    ],
    ids=["slow headers", "slow body"],
)
def test_what_is_slow_after_the_status_does_not_undo_it(talker: Any, pieces: list[bytes]):
    url = talker(iter(pieces), pause=0.05)
    assert post(url, b"{}", {}, LOOPBACK, seconds=1).status == 200


def test_a_huge_body_is_not_read(talker: Any):
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        for _ in range(1000):  # 64 MB, of which the connection's buffers take some
            yield b"." * MAX_ANSWER
            sent += 1

    url = talker(pieces())
    assert post(url, b"{}", {}, LOOPBACK).status == 200
    assert sent < 1000


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"\0" * 99_999]
)
def test_what_is_no_http(talker: Any, answer: bytes):
    with pytest.raises(NoAnswer):
        post(talker(iter([answer])), b"{}", {}, LOOPBACK, seconds=2)


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        ("0", 0, 0),
        ("120", 120, 120),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9, 1e10),
        ("Fri, 31 Dec 2100 23:59:59 -0000", 1e9, 1e10),
    ],
)
def test_retry_after(retry_after: str, low: float, high: float):
    with receiver(answers(503, headers={"Retry-After": retry_after})) as there:
        seconds = post(there.url, b"{}", {}, LOOPBACK).retry_after
    assert seconds is not None
    assert low <= seconds <= high


FAR_YEAR = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"


@pytest.mark.parametrize("retry_after", ["soon", "-1", "1.5", "1" * 5000, "Fri, 99 Dec 2100 23:59:59 GMT", FAR_YEAR])
def test_a_retry_after_that_cannot_be_read(retry_after: str):
    with receiver(answers(503, headers={"Retry-After": retry_after})) as there:
        assert post(there.url, b"{}", {}, LOOPBACK) == Answer(503, None)


# ----------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for the name hooks.example, signed by itself, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "hooks.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hooks.example"]
    command += ["-addext", "subjectAltName=DNS:hooks.example", "-keyout", str(file), "-out", str(file) + ".crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(str(file) + ".crt").read_text())
    return file


@pytest.fixture
def tls_receiver(certificate: Path) -> Iterator[tuple[Receiver, list[str | None]]]:
    """Run an https server for hooks.example; the list has the names that clients ask for (SNI)."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        answers(200)(handler, number)

    with receiver(behave, tls=context) as there:
        yield there, asked


def test_tls_keeps_the_name_although_the_address_is_connected_to(
    tls_receiver: tuple[Receiver, list[str | None]], certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    there, asked = tls_receiver
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = there.url.replace("127.0.0.1", "hooks.example")
    assert post(url, b"{}", {}, LOOPBACK, resolve=resolver("127.0.0.1")).status == 200
    assert asked == ["hooks.example"]
    assert there.header("host") == [url.split("/")[2]]


def test_a_certificate_for_another_name(
    tls_receiver: tuple[Receiver, list[str | None]], certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    there, _ = tls_receiver
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = there.url.replace("127.0.0.1", "other.example")
    with pytest.raises(NoAnswer, match=r"(?i)hostname mismatch"):
        post(url, b"{}", {}, LOOPBACK, resolve=resolver("127.0.0.1"))
    assert not there.requests


def test_a_certificate_that_nobody_vouches_for(tls_receiver: tuple[Receiver, list[str | None]]):
    there, _ = tls_receiver
    url = there.url.replace("127.0.0.1", "hooks.example")
    with pytest.raises(NoAnswer, match="self-signed"):
        post(url, b"{}", {}, LOOPBACK, resolve=resolver("127.0.0.1"))
    assert not there.requests
