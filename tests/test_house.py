"""The house's one rule: imports run down only. So nothing below needs what stands above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from utils.paths import PROJECT

# what each room may import of the project, besides itself
MAY_IMPORT = {
    "sample_ilvr": {"utils.run", "utils"},
    "benchmarks": {"utils.run", "models", "diffusions", "utils", "weights"},
    "weights": {"models", "diffusions", "utils"},
    "utils.run": {"models", "diffusions", "utils"},
    "models": {"diffusions", "utils"},
    "diffusions": {"utils"},
    "utils": set(),
}
# the imports that wait: the engine, until the arguments are read; and packages that only some runs need, and that
# take long to import (the hub's client) or much memory (diffusers, beside which this project's memory is measured)
LATE = {
    "sample_ilvr": {"utils.run"},
    "models.files.hub": {"huggingface_hub"},
    "benchmarks.samplers": {"diffusers", "resize_right"},
    "benchmarks.speed": {"diffusers"},
}


def sources() -> list[Path]:
    """Every module of the project but its tests."""
    folders = ("benchmarks", "diffusions", "models", "utils", "weights")
    return [
        PROJECT / "sample_ilvr.py",
        *(path for folder in folders for path in sorted((PROJECT / folder).rglob("*.py"))),
    ]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


def room(module: str) -> str | None:
    """The room that a module stands in; None for what is not the project's."""
    first, _, rest = module.partition(".")
    if first == "utils" and rest.partition(".")[0] == "run":
        return "utils.run"
    return first if first in MAY_IMPORT else None


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a piece of code imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(module: str, code: str) -> list[str]:
    """The imports that a module should not have."""
    own = room(module)
    assert own is not None
    found = [(name, room(name)) for name in imports(ast.parse(code))]
    faults = [name for name, its in found if its is not None and its != own and its not in MAY_IMPORT[own]]
    if own == "models":  # of the mathematics, a model holds its process and nothing else
        faults += [name for name, its in found if its == "diffusions" and not allowed_in_models(name)]
    return faults


def allowed_in_models(name: str) -> bool:
    return name == "diffusions.Process" or name.startswith(("diffusions.process.", "diffusions.continuous."))


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_run_down_only(path):
    assert not upward(module_name(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("utils.images", "from utils.run.settings import Settings"),
        ("utils.files", "import models"),
        ("diffusions.ilvr", "from models import load_model"),
        ("models.networks.unet", "from diffusions import DDPM"),
        ("models.networks.unet", "def f():\n    from utils.run import engine"),
        ("weights.openpeeps64.train", "from benchmarks.judge import main"),
        ("utils.run.engine", "import sample_ilvr"),
    ],
)
def test_an_upward_import_is_found(module, code):
    assert upward(module, code)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_nothing_else_is_imported_late(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late = {room(name) or name.partition(".")[0] for function in functions for name in imports(function)}
    assert late <= LATE.get(module_name(path), set())


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_files_and_functions_are_short(path):
    code = path.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 300
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.body[0].lineno < 60, node.name
