"""SQL is text that stands in the source: values are bound, and nothing else gets into a statement (OWASP Injection)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.application import ROOT

CORE = ROOT / "layers" / "core" / "eventsplatform"
RUNS_SQL = {"execute", "executemany", "fetch_one", "fetch_all", "exec_driver_sql"}
# Names of roles and settings that stand in the source come to statements which take no parameters: in migrations,
# which nobody but a deployment runs.
MIGRATIONS = {path for path in CORE.rglob("*.py") if "migrations" in path.parts} | {CORE / "operations" / "migrate.py"}


def composed_statements(source: str) -> Iterator[str]:
    """`line: code` of each statement that is not made of constants alone, or by psycopg's own composition."""
    tree = ast.parse(source)
    constants = _names_of_constants(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNS_SQL):
            continue
        if node.args and not _is_constant(node.args[0], constants):
            yield f"{node.lineno}: {ast.unparse(node.args[0])}"


def _names_of_constants(tree: ast.AST) -> set[str]:
    """Names and attributes that are only ever given constants, or what psycopg composed."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                assigned.setdefault(ast.unparse(target), []).append(node.value)
    constants: set[str] = set()
    while True:
        known = {name for name, values in assigned.items() if all(_is_constant(v, constants) for v in values)}
        if known == constants:
            return constants
        constants = known


def _is_constant(node: ast.expr, constants: set[str]) -> bool:
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in constants
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _is_constant(left, constants) and _is_constant(right, constants)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_constant(body, constants) and _is_constant(orelse, constants)
        case ast.Call(func=ast.Attribute(value=ast.Call(func=func), attr="format")):
            return ast.unparse(func) == "sql.SQL"
        case ast.Call(func=func, args=[ast.Constant()]):
            return ast.unparse(func) == "sql.SQL"
        case _:
            return False


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CORE.rglob("*.py")) if path not in MIGRATIONS],
    ids=lambda p: str(p.relative_to(CORE)),
)
def test_no_statement_is_composed_of_values(path: Path) -> None:
    # A statement that a caller hands on is checked where it stands.
    handed_on = {CORE / "adapters" / "postgres.py", CORE / "messaging" / "recording.py"}

    assert path in handed_on or list(composed_statements(path.read_text())) == []


@pytest.mark.parametrize(
    "statement",
    [
        'connection.execute(f"SELECT {name}")',
        'connection.execute("SELECT %s" % name)',
        'connection.execute("SELECT " + name)',
        'connection.execute("SELECT {}".format(name))',
        'query = "SELECT "\nquery = query + name\nconnection.execute(query)',
        "database.fetch_all(given)",
    ],
)
def test_a_statement_that_a_value_gets_into_is_found(statement: str) -> None:
    assert len(list(composed_statements(statement))) == 1


@pytest.mark.parametrize(
    "statement",
    [
        'connection.execute("SELECT %s", (name,))',
        '_EVENT = "SELECT "\nconnection.execute(_EVENT + "1" + (" FOR UPDATE" if locked else ""))',
        'connection.execute(sql.SQL("SELECT {}").format(sql.Identifier(name)))',
    ],
)
def test_a_statement_of_constants_is_left_alone(statement: str) -> None:
    assert list(composed_statements(statement)) == []
