"""What a receiver believes.

The vectors are those of the Standard Webhooks project: the tests of its Go library,
github.com/standard-webhooks/standard-webhooks, libraries/go/webhook_symmetric_test.go.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import ChainruleError
from chainrule.webhooks import WebhookVerificationError, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
PAYLOAD = b'{"test": 2432232314}'
OTHER = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="

#: The vector with a fixed time: what its signature must be.
SENT = 1614265330
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def signed(payload: bytes = PAYLOAD, sent: float | None = None, message_id: str = ID) -> dict[str, str]:
    """Return the headers of a message, by the scheme's words and not by the code under test."""
    moment = str(int(time.time() if sent is None else sent))
    key = base64.b64decode(SECRET.split("_")[1])
    mac = hmac.new(key, message_id.encode() + b"." + moment.encode() + b"." + payload, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return {"webhook-id": message_id, "webhook-timestamp": moment, "webhook-signature": signature}


def test_the_published_signature_is_believed():
    headers = {"webhook-id": ID, "webhook-timestamp": str(SENT), "webhook-signature": SIGNATURE}
    assert verify(PAYLOAD, headers, SECRET, tolerance=float("inf")) == {"test": 2432232314}


def test_the_published_signature_is_too_old_now():
    headers = {"webhook-id": ID, "webhook-timestamp": str(SENT), "webhook-signature": SIGNATURE}
    with pytest.raises(WebhookVerificationError, match="300 s from now"):
        verify(PAYLOAD, headers, SECRET)


def test_text_other_cases_of_headers_and_a_secret_without_its_prefix():
    headers = {name.title(): value for name, value in signed().items()}
    assert verify(PAYLOAD.decode(), headers, SECRET.removeprefix("whsec_")) == {"test": 2432232314}


def test_one_signature_of_several_must_fit():
    headers = signed()
    headers["webhook-signature"] = " ".join([OTHER, OTHER.replace("v1", "v2"), headers["webhook-signature"], OTHER])
    assert verify(PAYLOAD, headers, SECRET)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header(name: str):
    headers = signed()
    del headers[name]
    with pytest.raises(WebhookVerificationError, match=f"{name} is missing"):
        verify(PAYLOAD, headers, SECRET)


@pytest.mark.parametrize("signature", [OTHER, "v1,", "v1", "é", SIGNATURE])
def test_a_signature_that_does_not_fit(signature: str):
    with pytest.raises(WebhookVerificationError, match="no signature fits"):
        verify(PAYLOAD, signed() | {"webhook-signature": signature}, SECRET)


@pytest.mark.parametrize("version", ["v2", "v1a", "V1", ""])
def test_a_signature_of_another_version(version: str):
    headers = signed()
    headers["webhook-signature"] = version + headers["webhook-signature"].removeprefix("v1")
    with pytest.raises(WebhookVerificationError, match="no signature fits"):
        verify(PAYLOAD, headers, SECRET)


@pytest.mark.parametrize("seconds", [-310, 310])
def test_a_message_from_another_time(seconds: int):
    with pytest.raises(WebhookVerificationError, match="from now"):
        verify(PAYLOAD, signed(sent=time.time() + seconds), SECRET)
    assert verify(PAYLOAD, signed(sent=time.time() + seconds), SECRET, tolerance=320)


@pytest.mark.parametrize("sent", ["soon", "-1", "1.5", "1e9", "٣"])
def test_a_time_that_is_none(sent: str):
    with pytest.raises(WebhookVerificationError, match="whole number"):
        verify(PAYLOAD, signed() | {"webhook-timestamp": sent}, SECRET)


@given(st.binary(min_size=1).filter(lambda body: body != PAYLOAD))
def test_no_other_payload_is_believed(payload: bytes):
    with pytest.raises(WebhookVerificationError):
        verify(payload, signed(), SECRET)


@given(st.integers(-300, 300).filter(bool))
def test_no_other_time_is_believed(seconds: int):
    headers = signed()
    with pytest.raises(WebhookVerificationError):
        verify(PAYLOAD, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + seconds)}, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_é"])
def test_a_secret_that_is_none(secret: str):
    with pytest.raises(ValueError, match="secret must be whsec_"):
        verify(PAYLOAD, signed(), secret)


def test_the_error_is_one_of_the_package():
    assert issubclass(WebhookVerificationError, ChainruleError)
