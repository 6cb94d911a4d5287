"""CONTRIBUTING's examples: a sampler, a guide and a family each take one file and a line of a table."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.commands import ENVIRONMENT, PROJECT, read_images
from tests.test_golden_ilvr import WEIGHTS, tiny_config

pytestmark = pytest.mark.slow

CHAPTER = re.compile(r"## To add a (?P<what>[a-z]+).*?\n(?=## |\Z)", re.DOTALL)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
PLACES = {
    "sampler": ("diffusions/__init__.py", "SAMPLERS"),
    "guide": ("diffusions/__init__.py", "GUIDES"),
    "family": ("models/families/__init__.py", "FAMILIES"),
}
CHOICES = {"sampler": 'choices=("ddpm", ', "guide": 'choices=("sample", '}


def add_example(what: str, project: Path) -> None:
    """Do in a copy of the project what the chapter says."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (chapter,) = (match[0] for match in CHAPTER.finditer(text) if match["what"] == what)
    module, lines = CODE.findall(chapter)
    assert len([line for line in module.splitlines()[1:] if line]) <= 15
    (project / module.partition("\n")[0].removeprefix("# ")).write_text(module)
    place, table = PLACES[what]
    code = (project / place).read_text(encoding="utf-8")
    import_line, entry = lines.splitlines()
    code = re.sub(rf"^({table}: .* = {{)$", rf"\1\n{entry}", code, flags=re.MULTILINE)
    if what in CHOICES:
        arguments = project / "utils" / "run" / "arguments.py"
        declared = arguments.read_text(encoding="utf-8")
        assert declared.count(CHOICES[what]) == 1
        name = entry.partition(":")[0].strip()
        arguments.write_text(declared.replace(CHOICES[what], f"{CHOICES[what]}{name}, "))
    docstring, _, rest = code.partition("\n\n")
    (project / place).write_text(f"{docstring}\n\n{import_line}\n{rest}")


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the code."""
    for name in ("diffusions", "models", "utils"):
        shutil.copytree(PROJECT / name, tmp_path / "project" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "sample_ilvr.py", tmp_path / "project")
    return tmp_path / "project"


def run(project: Path, *args: object) -> dict:
    command = [sys.executable, project / "sample_ilvr.py", "--respace_steps", 3, "--save_dir", project / "out", *args]
    done = subprocess.run(list(map(str, command)), cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return read_images(project / "out")


@pytest.mark.parametrize(("what", "argument"), [("sampler", "--sampler=direct"), ("guide", "--refine=mean_colour")])
def test_samplers_and_guides(project, tiny_model, input_dir, what, argument):
    add_example(what, project)
    images = run(project, "--weights", tiny_model, "--input_dir", input_dir, argument)
    assert sorted(images) == ["a_0.png", "b_0.png", "c_0.png"]


def test_families(project, input_dir):
    add_example("family", project)
    state = {name.replace("temb.dense", "time"): tensor for name, tensor in load_file(WEIGHTS).items()}
    save_file(state, project / "renamed.safetensors")
    config = tiny_config()
    config["model"]["dialect"] = "renamed"
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    args = ("--weights", project / "renamed.safetensors", "-c", project / "config.yaml", "--input_dir", input_dir)
    assert len(run(project, *args)) == 3
