"""Fetch the browser assets that vendor.toml lists, verify them, and put them where the service serves them.

`make vendor` runs this. It needs npm and a network; nothing else in the project does.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = Path(__file__).with_suffix(".toml")


def fetch(package: dict[str, Any], folder: Path) -> Path:
    """Download one package's archive into `folder`; raise ValueError unless it has the listed integrity."""
    wanted = f"{package['name']}@{package['version']}"
    packed = subprocess.run(
        ["npm", "pack", wanted, "--silent"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    archive = folder / packed.stdout.split()[-1]
    algorithm, _, expected = package["integrity"].partition("-")
    found = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
    if found != expected:
        raise ValueError(f"{wanted}: the archive's {algorithm} is {found}, vendor.toml says {expected}")
    return archive


def unpack(package: dict[str, Any], archive: Path, destination: Path) -> None:
    """Copy the listed files, and only those, into an emptied folder; raise ValueError at a wrong sum."""
    contents: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for name, expected in package["sha256"].items():
            member = tar.extractfile(f"package/{name}")
            contents[name] = member.read() if member else b""
            found = hashlib.sha256(contents[name]).hexdigest()
            if found != expected:
                raise ValueError(f"{package['name']}: the sha256 of {name} is {found}, not {expected}")
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    for name, content in contents.items():
        (destination / name).write_bytes(content)


def main() -> None:
    """Renew every package of vendor.toml."""
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    for package in manifest["package"]:
        destination = ROOT / manifest["destination"] / package["folder"]
        with tempfile.TemporaryDirectory() as folder:
            unpack(package, fetch(package, Path(folder)), destination)
        print(f"{package['name']} {package['version']}: {len(package['sha256'])} files in {destination}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, KeyError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"vendor.py: {error}")
