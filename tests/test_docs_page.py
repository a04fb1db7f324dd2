"""The documentation page in a real browser: offline, in both themes, under the service's own security policy."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest
from werkzeug.serving import make_server

from chainrule_service.app import create_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Playwright is imported where it is used: `make test` looks at this file too, and only `make test-browser` installs it.
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A service on a free port of this machine."""
    server = make_server("127.0.0.1", 0, create_app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium is installed")
    with sync_playwright() as playwright:
        # Root, as which containers and CI often run, cannot use Chromium's sandbox; the page is our own.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        chosen = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield chosen
        chosen.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_shows_the_api_and_asks_no_other_host(
    address: str, browser: Browser, theme: Literal["light", "dark"]
) -> None:
    from playwright.sync_api import expect

    complaints: list[str] = []
    elsewhere: list[str] = []
    with browser.new_context(color_scheme=theme) as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", lambda answer: answer.ok or complaints.append(f"{answer.status} {answer.url}"))
        page.on("request", lambda request: request.url.startswith((address, "data:")) or elsewhere.append(request.url))
        page.goto(f"{address}/docs")
        expect(page.locator(".opblock-summary-path", has_text="/v1/gradient-checks")).to_be_visible()
        assert page.evaluate("document.documentElement.classList.contains('dark-mode')") is (theme == "dark")
        assert complaints == []
        assert elsewhere == []


def test_a_request_can_be_tried_from_the_page(address: str, browser: Browser) -> None:
    from playwright.sync_api import expect

    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/docs")
        operation = page.locator(".opblock", has=page.locator(".opblock-summary-path", has_text="/v1/version"))
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        status = operation.locator(".live-responses-table tbody .response-col_status")
        expect(status.first).to_contain_text("200")
