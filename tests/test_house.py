"""The limits of the code: short files, short functions; and what it requires. `lint-imports` checks the imports."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

from tests.commands import PROJECT

MAX_FILE, MAX_FUNCTION, MAX_90TH_PERCENTILE = 300, 60, 20  # lines; of functions, without docstring, comments and blanks


def sources() -> list[Path]:
    """Every module except the tests."""
    rooms = ("benchmarks", "diffusions", "examples", "models", "utils", "weights")
    return [PROJECT / "sample_ilvr.py", *(path for room in rooms for path in (PROJECT / room).rglob("*.py"))]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's place, and its lines of code."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[ast.get_docstring(node) is not None :][:1] or node.body
            body = lines[first[0].lineno - 1 : node.end_lineno]
            code = [line for line in body if line.strip() and not line.lstrip().startswith("#")]
            yield f"{path.relative_to(PROJECT)}:{node.lineno} {node.name}", len(code)


def test_files_and_functions_are_short():
    paths = sources()
    long_files = [path for path in paths if len(path.read_text(encoding="utf-8").splitlines()) > MAX_FILE]
    assert not long_files
    found = [function for path in paths for function in functions(path)]
    assert not [place for place, lines in found if lines > MAX_FUNCTION]
    assert quantiles([lines for _, lines in found], n=10)[-1] <= MAX_90TH_PERCENTILE


def test_both_lists_of_requirements_are_the_same():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    names = "requirements.txt", "requirements-dev.txt"
    runtime, development = ((PROJECT / name).read_text(encoding="utf-8").splitlines() for name in names)
    assert project["project"]["dependencies"] == runtime
    assert ["-r requirements.txt", *project["dependency-groups"]["dev"]] == development
