"""The dependency rule and the size of functions and modules, checked by reading the source."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "operator" / "longtask_operator"
WORKER = ROOT / "worker-image" / "longtask_worker"
#: layer -> layers of our own package it may import
ALLOWED = {
    "api": {"api"},
    "core": {"api", "core"},
    "adapters": {"api", "adapters"},
    "engines": {"api", "core", "adapters", "engines", "settings"},
    "handlers": {"api", "core", "adapters", "engines", "handlers"},
}
PURE = ("api", "core")
#: All that a pure layer may take from outside; everything else needs a decision here.
PURE_IMPORTS = {
    "__future__", "collections", "dataclasses", "datetime", "decimal", "enum", "functools", "hashlib", "heapq",
    "itertools", "json", "math", "orjson", "pydantic", "re", "types", "typing",
}  # fmt: skip
IMPURE_CALLS = {"now", "utcnow", "today", "monotonic", "random", "uuid4", "getenv", "print", "open", "input", "eval"}
MAX_FUNCTION_LINES, MEDIAN_BODY_LINES, MAX_MODULE_LINES = 60, 8, 400


def modules(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
    assert found, f"no modules in {folder}"
    return found


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: absolute imports only"
            yield node.module or ""


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines below the signature, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


SOURCES = [*modules(OPERATOR), *modules(WORKER), *modules(ROOT / "devcluster"), *modules(ROOT / "tools")]


def test_every_layer_is_known() -> None:
    assert {path.name for path in OPERATOR.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ALLOWED)


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_downwards_only(layer: str) -> None:
    wrong = [
        f"{path.name}: {name}"
        for path in modules(OPERATOR / layer)
        for name in imports(path)
        if name.startswith("longtask_operator.") and name.split(".")[1] not in ALLOWED[layer]
    ]
    assert wrong == []


@pytest.mark.parametrize("layer", PURE)
def test_a_pure_layer_imports_nothing_impure(layer: str) -> None:
    wrong = [
        f"{path.name}: {name}"
        for path in modules(OPERATOR / layer)
        for name in imports(path)
        if not name.startswith("longtask_operator.") and name.split(".")[0] not in PURE_IMPORTS
    ]
    assert wrong == []


@pytest.mark.parametrize("layer", PURE)
def test_a_pure_layer_does_not_await_nor_read_clock_chance_or_environment(layer: str) -> None:
    wrong = []
    for path in modules(OPERATOR / layer):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                wrong.append(f"{path.name}:{node.lineno}: async")
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in IMPURE_CALLS:
                    wrong.append(f"{path.name}:{node.lineno}: {called}()")
    assert wrong == []


def test_nothing_but_main_imports_the_composition_root() -> None:
    users = [
        path.name
        for path in modules(OPERATOR)
        if path.name not in ("__main__.py", "app.py") and "longtask_operator.app" in set(imports(path))
    ]
    assert users == []


def test_the_operator_directory_is_not_a_package() -> None:
    assert not (OPERATOR.parent / "__init__.py").exists(), "it would shadow the standard library's module 'operator'"


def test_import_linter_agrees() -> None:
    path = os.pathsep.join((str(OPERATOR.parent), str(WORKER.parent)))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_modules_are_short(path: Path) -> None:
    long = {
        function.name: lines
        for function in functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES


def test_most_functions_are_a_few_lines() -> None:
    lengths = [body_lines(function) for path in SOURCES for function in functions(path)]
    assert statistics.median(lengths) <= MEDIAN_BODY_LINES
