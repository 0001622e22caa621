"""What is installed and deployed is what the lock file names, byte for byte."""

from __future__ import annotations

import tomllib
from typing import Any

from tests.support.application import ROOT

LOCK = tomllib.loads((ROOT / "uv.lock").read_text())


def files_without_hash(lock: dict[str, Any]) -> list[str]:
    files = [
        (package["name"], file)
        for package in lock["package"]
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    ]
    return [name for name, file in files if not str(file.get("hash", "")).startswith("sha256:")]


def test_every_file_of_every_locked_package_has_its_hash() -> None:
    assert len(LOCK["package"]) > 100
    assert files_without_hash(LOCK) == []


def test_a_file_without_a_hash_is_found() -> None:
    assert files_without_hash({"package": [{"name": "loose", "wheels": [{"url": "…"}]}]}) == ["loose"]


def test_every_package_but_this_one_comes_from_a_registry() -> None:
    """A git or path dependency has no hash to keep it to."""
    elsewhere = [package["name"] for package in LOCK["package"] if "registry" not in package["source"]]

    assert elsewhere == ["events-platform"]


def test_layers_are_built_of_hashed_packages_only() -> None:
    assert "--require-hashes" in (ROOT / "layers" / "dependencies" / "Makefile").read_text()
    assert "--no-hashes" not in (ROOT / "Makefile").read_text()
