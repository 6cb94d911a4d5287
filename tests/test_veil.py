"""The advice that a range would help: for references that the model could not have drawn, and for no others."""

import shutil

import pytest

from tests.commands import PROJECT, launch, run_here

REFERENCES = PROJECT / "assets" / "references"
PORTRAITS = ("-c", "configs/openpeeps64.yaml")
PAPER = (*PORTRAITS, "--refine", "sample", "--range_t", 0, "--respace_steps", 10, "--micro_batch", 2)
ADVICE = "will tint the samples. For cleaner images add --range_t 20%"


@pytest.fixture
def references(tmp_path, request):
    folder = tmp_path / "references"
    folder.mkdir()
    for path in sorted(REFERENCES.glob(request.param))[:3]:
        shutil.copy(path, folder)
    return ("--input_dir", folder, "--save_dir", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("references", ["personas-*"], indirect=True)
def test_it_is_given_once_and_where_it_helps(references, capsys):
    assert run_here(*PAPER, *references) == (0, "")
    said = capsys.readouterr().out
    assert said.count(ADVICE) == 1
    off = int(said.partition("(by ")[2].partition("/")[0])
    assert 18 <= off <= 60
    for other in (("--range_t", "20%"), ("--refine", "regions"), ("--range_t", 0, 4), ("--strength", 0.1)):
        assert run_here(*PAPER, *references, *other, "--overwrite") == (0, "")
        assert ADVICE not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("references", ["personas-*"], indirect=True)
def test_one_of_several_processes_gives_it(references):
    done = launch(2, *PAPER, *references)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ADVICE) == 1


@pytest.mark.parametrize("references", ["openpeeps-*"], indirect=True)
def test_it_is_not_given_of_the_models_own_kind(references, capsys):
    assert run_here(*PAPER, *references) == (0, "")
    assert ADVICE not in capsys.readouterr().out
