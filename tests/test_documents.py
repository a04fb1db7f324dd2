"""What the documents tell people to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule_service.app import create_app
from chainrule_service.metrics import METERS
from chainrule_service.settings import LIMITS, Settings

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


def test_each_setting_and_each_metric_is_in_the_guide_for_operators():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [name for name in sorted(Settings.names()) if f"CHAINRULE_{name.upper()}" not in text] == []
    names = {meter.name if meter.seconds else f"{meter.name}_total" for meter in METERS}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_each_variable_that_the_guide_for_operators_names_exists():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"CHAINRULE_([A-Z_]*[A-Z])", text)) - {"LIMIT"}
    limits = {f"LIMIT_{name.upper()}" for name in LIMITS}
    assert named <= {name.upper() for name in Settings.names()} | limits | {"ENGINE", "DATABASE_PASSWORD"}


def test_each_command_that_the_guide_for_operators_names_exists(capsys):
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    typed = re.findall(r"`chainrule ([a-z]+)", text) + re.findall(r"^ {4}chainrule ([a-z]+)", text, re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert set(typed) <= set(re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE))


def test_the_help_of_serve_has_each_setting(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in sorted(Settings.names()) if f"CHAINRULE_{name.upper()}" not in shown] == []
