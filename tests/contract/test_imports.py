"""Who may import whom: the rules of `.importlinter`, and that they catch what they are for."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.application import ROOT

CORE = ROOT / "layers" / "core" / "eventsplatform"
FUNCTION_MODULES = sorted((ROOT / "functions").rglob("app.py"))

# The standard library besides. FastAPI and pydantic are the language that endpoints are declared in.
FUNCTIONS_MAY_IMPORT = {"eventsplatform", "fastapi", "pydantic"}


def lint_imports(directory: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the packages that `directory` has, and for the rest those of the checkout."""
    chosen = [argument for contract in contracts for argument in ("--contract", contract)]
    tool = str(Path(sys.executable).with_name("lint-imports"))
    command = [tool, "--config", str(ROOT / ".importlinter"), "--no-cache", *chosen]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)


def test_the_import_rules_are_kept() -> None:
    checked = lint_imports(ROOT)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with a core of its own to break."""
    shutil.copytree(CORE, tmp_path / "eventsplatform", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("contract", "module", "violation"),
    [
        ("models-are-pure", "catalog/model.py", "import psycopg"),
        ("models-are-pure", "search/model.py", "from eventsplatform.observability import logger"),
        ("use-cases-know-no-engine", "catalog/service.py", "from eventsplatform.observability import logger"),
        ("use-cases-know-no-engine", "realtime/service.py", "from eventsplatform.adapters.redis import redis_client"),
        ("services-are-independent", "search/model.py", "from eventsplatform.catalog.model import Event"),
        ("layers", "messaging/relay.py", "from eventsplatform.catalog.service import Catalog"),
        ("layers", "adapters/kafka.py", "from eventsplatform.messaging.envelope import Message"),
        ("layers", "payments/__init__.py", ""),
        ("tables-are-private", "registrations/service.py", "import eventsplatform.catalog.repository"),
        ("services-are-independent", "search/wiring.py", "import eventsplatform.catalog.repository"),
        ("entrypoints-are-for-functions", "catalog/wiring.py", "import eventsplatform.entrypoints.http"),
        ("core-is-what-is-deployed", "clock.py", "import local.engines"),
    ],
)
def test_an_import_that_breaks_a_rule_is_caught(copy: Path, contract: str, module: str, violation: str) -> None:
    broken = copy / "eventsplatform" / module
    broken.parent.mkdir(exist_ok=True)
    with broken.open("a") as file:
        file.write(f"\n{violation}\n")

    checked = lint_imports(copy, contract)

    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "BROKEN" in checked.stdout


def imported_by(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "functions have no package to be relative to"
            yield node.module or ""


@pytest.mark.parametrize("module", FUNCTION_MODULES, ids=lambda module: "/".join(module.parts[-3:-1]))
def test_a_function_imports_the_core_and_nothing_else(module: Path) -> None:
    imported = {name.partition(".")[0] for name in imported_by(module)}

    assert imported <= FUNCTIONS_MAY_IMPORT | sys.stdlib_module_names


@pytest.mark.parametrize("module", FUNCTION_MODULES, ids=lambda module: "/".join(module.parts[-3:-1]))
def test_a_function_says_what_it_serves_and_little_more(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 40


def test_no_module_is_named_after_nothing() -> None:
    """`utils` and `common` say what is in a module as little as `misc` does, and grow for that reason."""
    nameless = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}
    modules = [path for top in ("layers", "functions", "local", "tests") for path in (ROOT / top).rglob("*.py")]

    assert [str(path) for path in modules if path.name in nameless and ".aws-sam" not in path.parts] == []
