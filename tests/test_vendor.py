"""Files of other projects are the published ones, are listed, and spare our pages any other host."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "service/chainrule_service/static"
MANIFEST: dict[str, Any] = tomllib.loads((ROOT / "tools/vendor.toml").read_text(encoding="utf-8"))
VENDOR = ROOT / MANIFEST["destination"]
LISTED = {
    f"{package['folder']}/{name}": digest
    for package in MANIFEST["package"]
    for name, digest in package["sha256"].items()
}
OWN_PAGES = [
    path
    for path in sorted((ROOT / "service/chainrule_service").rglob("*"))
    if path.suffix in {".html", ".jinja", ".js", ".css"} and not path.is_relative_to(VENDOR)
]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_vendored_file_is_listed_with_its_sum() -> None:
    found = {path.relative_to(VENDOR).as_posix(): sha256(path) for path in VENDOR.rglob("*") if path.is_file()}
    assert found == LISTED


@pytest.mark.parametrize("package", MANIFEST["package"], ids=lambda package: package["name"])
def test_a_vendored_package_keeps_its_licence_and_version(package: dict[str, Any]) -> None:
    assert package["version"] in package["folder"]
    assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])
    assert package["licence"]
    assert "LICENSE" in package["sha256"]


def test_the_compose_schema_is_the_published_one() -> None:
    record = (ROOT / "tests/data/compose-spec.md").read_text(encoding="utf-8")
    assert sha256(ROOT / "tests/data/compose-spec.json") in record


def test_there_are_pages_to_look_at() -> None:
    assert {"docs.js", "docs.css"} <= {path.name for path in OWN_PAGES}


class Loads(HTMLParser):
    """Collect what a browser fetches by itself to show a page: all but the links that a reader follows."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = {"action", "data", "formaction", "poster", "src", "srcset"}
        if tag != "a":
            loading.add("href")
        self.addresses += [value for name, value in attrs if name in loading and value]


def addresses_loaded(name: str, text: str) -> list[str]:
    """Return the other hosts' addresses that a page, a script or a style sheet loads."""
    if name.endswith((".js", ".css")):
        code = re.sub(r"(?m)(^|\s)//\s.*$", "", text)  # without comments
        addresses: list[str] = re.findall(r"""(?:[a-z]+:)?//[^\s"'`)]+\.[^\s"'`)]+""", code)
        return [address for address in addresses if not address.startswith("http://www.w3.org/")]  # a namespace
    parser = Loads()
    parser.feed(text)
    return [address for address in parser.addresses if re.match(r"([a-z]+:)?//", address)]


@pytest.mark.parametrize("page", OWN_PAGES, ids=lambda path: path.name)
def test_our_pages_load_nothing_from_another_host(page: Path) -> None:
    assert addresses_loaded(page.name, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.html", '<script src="https://cdn.example/x.js"></script>'),
        ("page.html", '<link rel="stylesheet" href="//cdn.example/x.css">'),
        ("page.js", 'fetch("https://api.example/x")'),
        ("page.js", 'import x from "//cdn.example/x.js"'),
        ("page.css", "@import url(https://fonts.example/x.css);"),
    ],
)
def test_loading_from_another_host_would_be_seen(name: str, text: str) -> None:
    assert len(addresses_loaded(name, text)) == 1


def test_what_our_templates_load_from_the_static_folder_is_there() -> None:
    templates = "".join(page.read_text(encoding="utf-8") for page in OWN_PAGES if page.suffix == ".html")
    names = re.findall(r"url_for\('static', filename='([^']+)'\)", templates)
    assert {"docs.js", "docs.css"} < set(names)
    assert [name for name in names if not (STATIC / name).is_file()] == []


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("chainrule-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_the_assets_and_the_typing_markers(wheel_names: set[str]) -> None:
    wanted = {f"chainrule_service/static/vendor/{name}" for name in LISTED}
    wanted |= {path.relative_to(ROOT / "service").as_posix() for path in OWN_PAGES}
    wanted |= {f"{package}/py.typed" for package in ("chainrule", "chainrule_engine", "chainrule_service")}
    assert wanted <= wheel_names


def test_the_wheel_carries_nothing_else(wheel_names: set[str]) -> None:
    folders = {name.split("/")[0] for name in wheel_names}
    assert {name for name in folders if not name.endswith(".dist-info")} == {
        "chainrule",
        "chainrule_engine",
        "chainrule_service",
    }
    assert not [name for name in wheel_names if "__pycache__" in name or name.endswith(".pyc")]
