"""Back-ups are made while a server runs, as docs/operations.md says, and hold what it had answered."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.service.databases import postgresql
from tests.service.test_serving import Server

from chainrule_service.database import Database
from chainrule_service.settings import FILE
from chainrule_service.training import NETWORK_EXAMPLE

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
JOB = {"type": "training", "spec": NETWORK_EXAMPLE}

pytestmark = pytest.mark.slow


def test_a_file_is_backed_up_and_restored(tmp_path):
    (program,) = re.findall(r"^    python (-c \"import sqlite3.*) FROM TO$", GUIDE, re.MULTILINE)
    running, restored = tmp_path / "running", tmp_path / "restored"
    restored.mkdir()
    with Server(running, workers=2) as server:
        job = server.call("/v1/jobs", JOB)
        command = [sys.executable, *shlex.split(program), running / FILE, restored / FILE]
        subprocess.run(command, check=True, timeout=60)
        server.call("/v1/jobs", JOB)
    with Server(restored) as server:
        (kept,) = server.call("/v1/jobs")["data"]
        assert server.call(kept["links"]["self"]) == job


def test_postgresql_is_backed_up_and_restored(tmp_path):
    dump, restore = (
        re.search(rf"^    ({program} [^#\n]*)", GUIDE, re.MULTILINE)[1].strip() for program in ("pg_dump", "pg_restore")
    )
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not here")
    with postgresql() as url, postgresql() as elsewhere:
        for each in (url, elsewhere):
            database = Database(each)
            database.upgrade()
            database.close()
        with Server(tmp_path / "one", workers=2, database_url=url) as server:
            job = server.call("/v1/jobs", JOB)
            run(dump, url, tmp_path)
        run(restore, elsewhere, tmp_path)
        with Server(tmp_path / "two", database_url=elsewhere) as server:
            (kept,) = server.call("/v1/jobs")["data"]
            assert server.call(kept["links"]["self"]) == job


def run(command, url, folder):
    """Run a line of the guide, with $DATABASE as it says."""
    line = command.replace('"$DATABASE"', url.replace("postgresql+psycopg", "postgresql"))
    subprocess.run(shlex.split(line), cwd=folder, check=True, timeout=60)
