"""What the documents tell people to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule_service.app import create_app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_make_target_that_a_document_names_exists(document):
    text = document.read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(.+)$", text, re.MULTILINE)
    named = {
        word for line in code if line.startswith("make ") for word in line.split("#")[0].split()[1:] if "=" not in word
    }
    assert named <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_that_a_document_links_to_exists(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []


def test_the_documents_do_name_targets():
    assert "make demo" in (ROOT / "README.md").read_text(encoding="utf-8")


def bodies() -> list[tuple[str, str]]:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    return re.findall(r"^```json POST (\S+)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("path", "body"), bodies())
def test_each_body_of_the_guide_is_answered(path, body):
    app = create_app()
    try:
        answer = app.test_client().post(path, data=body, content_type="application/json")
    finally:
        app.extensions["chainrule"].store.close()
    assert answer.status_code in (200, 201), answer.text
    assert answer.json.get("state", "succeeded") == "succeeded"


def test_the_guide_has_bodies():
    assert len(bodies()) >= 5
