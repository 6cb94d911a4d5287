"""--class_id and --guidance_scale: which classes a class-conditional model draws, and how strongly."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from models import Compiled, Tiles, choose_class, load_model, load_network
from models.networks.network import NO_CLASS
from models.networks.ready import ClassConditional
from tests import families
from tests.commands import launch, read_images, run_here, sample_ilvr
from tests.test_adm import golden_config
from tests.test_checkpoints import run_main
from utils.errors import InputError
from utils.images import read_png_text
from utils.run import job as job_module

DATA = Path(__file__).parent / "data"
WEIGHTS = DATA / "adm_class_tiny.weights.safetensors"


@pytest.fixture(scope="module")
def unet():
    return load_network(WEIGHTS, golden_config("adm_class_tiny", "adm"))


def test_the_chosen_class_is_drawn(unet):
    io = load_file(DATA / "adm_class_tiny.io.safetensors")
    for label, x, t, out in zip(io["y"].tolist(), io["x"], io["t"], io["out"], strict=True):
        with torch.no_grad():
            ours = choose_class(unet, label)(x[None], t[None])
        assert (ours[0] - out).abs().max() / out.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("class_id", "message"),
    [
        (None, r"the model is class-conditional: choose class_id 0 … 9"),
        (10, r"class_id must be 0 … 9, not 10"),
        (-1, r"class_id must be 0 … 9, not -1"),
    ],
)
def test_classes_there_are_none_of(unet, class_id, message):
    with pytest.raises(InputError, match=message):
        choose_class(unet, class_id)


def test_unconditional_models_have_no_class():
    unet = load_network(DATA / "adm_p2_tiny.weights.safetensors", golden_config("adm_p2_tiny", "adm"))
    assert choose_class(unet, None) is unet
    with pytest.raises(InputError, match="class_id 0: the model is unconditional, it has no classes"):
        choose_class(unet, 0)
    with pytest.raises(InputError, match="guidance_scale 3: guidance needs a class_id, and a model with classes"):
        choose_class(unet, None, 3)


@pytest.mark.slow
def test_the_command(tmp_path, input_dir, capsys):
    config = golden_config("adm_class_tiny", "adm") | {"weights": str(WEIGHTS)}
    config["diffusion"] = config["diffusion"] | {"var_type": "learned_range"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    args = ("-c", tmp_path / "config.yaml", "--input_dir", input_dir, "--save_dir", tmp_path / "out")
    done = sample_ilvr(*args, "--respace_steps", 2, "--class_id", 3)
    assert done.returncode == 0, done.stderr
    assert len(read_images(tmp_path / "out")) == 3
    assert "class_id: 3\n" in (tmp_path / "out" / "run.yaml").read_text()

    line = run_main(capsys, *args, "--save_dir", tmp_path / "other")
    assert line == "sample_ilvr: error: the model is class-conditional: choose class_id 0 … 9"


@pytest.fixture(scope="module")
def adagn(tmp_path_factory):
    """The research repository's class-conditional UNet, its labels dropped in training, with its YAML beside it."""
    folder = tmp_path_factory.mktemp("adagn")
    torch.save({"model": families.weights("xyf_adagn")}, folder / "xyf_adagn.pt")
    shutil.copy(families.FOLDER / "xyf_adagn.yaml", folder)
    return folder / "xyf_adagn.pt"


def without_dropped_labels(adagn, folder):
    """The same, as if no label had been dropped."""
    shutil.copy(adagn, folder / "model.pt")
    content = yaml.safe_load(adagn.with_suffix(".yaml").read_text())
    content["train"]["p_uncond"] = 0
    (folder / "model.yaml").write_text(yaml.safe_dump(content))
    return folder / "model.pt"


def test_class_no_class_and_guidance_are_the_research_repositorys(adagn):
    network, io = load_network(adagn), families.io("xyf_adagn")
    for class_id, scale, name in (
        (io["y"].tolist(), 1, "out_class"),
        (None, 1, "out_none"),
        (io["y"].tolist(), 3, "guided_3"),
    ):
        with torch.no_grad():
            out = choose_class(network, class_id, scale)(io["x"], io["t"])
        assert families.apart(out, io[name]) < 1e-5
    for class_id, wanted in zip(io["y"].tolist(), io["out_class"], strict=True):
        with torch.no_grad():
            out = choose_class(network, class_id)(io["x"], io["t"])
        assert families.apart(out[io["y"] == class_id][0], wanted) < 1e-5


def test_a_network_that_never_dropped_a_label_is_asked_for_a_class_only(adagn, tmp_path):
    network = load_network(without_dropped_labels(adagn, tmp_path))
    io = families.io("xyf_adagn")
    with torch.no_grad():
        assert families.apart(choose_class(network, io["y"].tolist())(io["x"], io["t"]), io["out_class"]) < 1e-5
    with pytest.raises(InputError, match=r"the model is class-conditional: choose class_id 0 … 4"):
        choose_class(network, None)
    with pytest.raises(InputError, match=r"guidance_scale 2.5: the model cannot be asked for no class, since"):
        choose_class(network, 1, 2.5)
    with pytest.raises(ValueError, match="the network is class-conditional"):
        network(io["x"], io["t"])


def test_without_a_config_it_is_not_known_whether_labels_were_dropped(adagn, tmp_path, capsys):
    shutil.copy(adagn, tmp_path / "alone.pt")
    args = ("--weights", tmp_path / "alone.pt", "--dry_run", "--set", "image_size=16", "attn_head_dims=32")
    args = (*args, "total_steps=1000", "beta_schedule=cosine", "objective=pred_eps")
    code, error = run_here(*args)
    assert (code, error) == (2, "the model is class-conditional: choose class_id 0 … 4")
    assert run_here(*args, "p_uncond=0.2") == (0, "")
    assert run_here(*args, "p_uncond=0.2", "--class_id", 1, "--guidance_scale", 2) == (0, "")
    code, error = run_here(*args, "p_uncond=1.2")
    assert code == 2 and error.endswith("p_uncond must be in 0 … 1, below 1, not 1.2")


def test_a_family_without_a_null_class_refuses_dropped_labels():
    config = golden_config("adm_class_tiny", "adm") | {"p_uncond": 0.1}
    with pytest.raises(InputError, match=r"p_uncond 0.1: networks of dialect adm have no null class"):
        load_network(WEIGHTS, config)


def test_the_variance_beside_a_guided_prediction_is_that_of_the_class():
    def network(x, t, class_id):
        known = (class_id != NO_CLASS).to(x)[:, None, None, None]
        return torch.cat([x + 10 * known, 0 * x + known], dim=1)

    x = torch.zeros(2, 3, 4, 4)
    out = ClassConditional(network, torch.tensor([1]), 3)(x, torch.zeros(2))
    assert out[:, :3].eq(30).all() and out[:, 3:].eq(1).all()


def test_windows_and_compiled_batches_get_their_own_images_class(adagn):
    network, x = load_network(adagn), torch.randn(3, 3, 16, 28, generator=torch.Generator().manual_seed(0))
    ids, t = torch.tensor([4, 0, 2]), torch.full([3], 500)

    class Eager(Compiled):  # compiling takes long, and would only be torch's
        def __init__(self, network, batch):
            self.network, self.batch = network, batch

    def call(network, ids, x, t):
        return ClassConditional(network, ids, 3)(x, t)

    with torch.no_grad():
        together = call(Tiles(Eager(network, 4), (16, 16), 4, 4), ids, x, t)
        alone = [
            call(Tiles(network, (16, 16), 4, 1), ids[i : i + 1], x[i : i + 1], t[i : i + 1]) for i in range(len(x))
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


def test_compiling_is_for_calls_with_a_class(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: lambda x, *given: calls.append(given) or x)
    Compiled(torch.nn.Identity(), (4, 3, 8, 8), torch.device("cpu"), 0.5, takes_class=True)
    assert [each.dtype for each in calls[0]] == [torch.float32, torch.int64]


def run_args(adagn, input_dir, out, *more):
    return ("--weights", adagn, "--input_dir", input_dir, "--save_dir", out, "--respace_steps", 3, *more)


def same(one, other, by=0):
    assert one.keys() == other.keys() and one
    return all(abs(one[name] - other[name]).max() <= by for name in one)


def test_each_variation_draws_the_next_class(adagn, input_dir, tmp_path):
    args = ("--n_samples", 15, "--micro_batch", 4)
    assert run_here(*run_args(adagn, input_dir, tmp_path / "two", *args, "--class_id", 3, 1)) == (0, "")
    pixels = read_images(tmp_path / "two")
    for variation in range(5):
        name = f"a_{variation}.png"
        assert read_png_text(tmp_path / "two" / name).text["class_id"] == ["3", "1"][variation % 2]
    assert "class_id:\n- 3\n- 1\n" in (tmp_path / "two" / "run.yaml").read_text()
    assert '"classes":[3,1]' in (tmp_path / "two" / "index.html").read_text()
    for class_id, variations in ((3, (0, 2, 4)), (1, (1, 3))):
        out = tmp_path / str(class_id)
        assert run_here(*run_args(adagn, input_dir, out, *args, "--class_id", class_id)) == (0, "")
        alone = read_images(out)
        for name in (f"{reference}_{variation}.png" for reference in "abc" for variation in variations):
            assert abs(alone[name] - pixels[name]).max() <= 1
            assert read_png_text(out / name).text == read_png_text(tmp_path / "two" / name).text
    assert not same({"a_1.png": read_images(tmp_path / "3")["a_1.png"]}, {"a_1.png": pixels["a_1.png"]}, 1)


def test_a_scale_of_1_leaves_bytes_and_text_as_they_are(adagn, input_dir, tmp_path):
    for out, more in (("plain", ()), ("one", ("--guidance_scale", 1)), ("two", ("--guidance_scale", 2))):
        assert run_here(*run_args(adagn, input_dir, tmp_path / out, "--class_id", 2, *more)) == (0, "")
    plain, one, two = ((tmp_path / out / "a_0.png").read_bytes() for out in ("plain", "one", "two"))
    assert plain == one != two
    text = [read_png_text(tmp_path / out / "a_0.png").text for out in ("plain", "two")]
    assert "guidance_scale" not in text[0] and text[1]["guidance_scale"] == "2.0"


@pytest.mark.slow
def test_all_classes_guided_are_the_same_on_one_process_and_three(adagn, input_dir, tmp_path):
    args = ("--n_samples", 15, "--class_id", "all", "--guidance_scale", 3)
    done = sample_ilvr(*run_args(adagn, input_dir, tmp_path / "one", *args))
    assert done.returncode == 0, done.stderr
    done = launch(3, *run_args(adagn, input_dir, tmp_path / "three", *args))
    assert done.returncode == 0, done.stderr
    assert same(read_images(tmp_path / "one"), read_images(tmp_path / "three"), 1)
    for variation in range(5):
        text = read_png_text(tmp_path / "one" / f"b_{variation}.png").text
        assert (text["class_id"], text["guidance_scale"]) == (str(variation), "3.0")
    assert "class_id: all\n" in (tmp_path / "one" / "run.yaml").read_text()


def test_larger_images_are_guided_too(adagn, input_dir, tmp_path):
    args = ("--class_id", "all", "--guidance_scale", 3, "--upscale", 2, "--detail", 0.4, "--n_samples", 6)
    for out, batch in (("one", 1), ("six", 6)):
        assert run_here(*run_args(adagn, input_dir, tmp_path / out, *args, "--micro_batch", batch)) == (0, "")
    assert same(read_images(tmp_path / "one"), read_images(tmp_path / "six"), 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--class_id", "3", "all"), "--class_id must be whole numbers, or all alone, not 'all'"),
        (("--class_id", "cat"), "--class_id must be whole numbers, or all alone, not 'cat'"),
        (("--class_id", "1", "5"), "class_id must be 0 … 4, not 5"),
        (("--guidance_scale", "3"), "guidance_scale 3: guidance needs a class_id, and a model with classes"),
        (("--class_id", "1", "--guidance_scale", "nan"), "--guidance_scale must be 0 … 100, not nan"),
    ],
)
def test_what_cannot_be_asked(adagn, input_dir, tmp_path, given, message):
    assert run_here(*run_args(adagn, input_dir, tmp_path / "out", "--dry_run", *given)) == (2, message)


def test_all_classes_of_a_model_without_any(tiny_model, input_dir, tmp_path):
    code, error = run_here(*run_args(tiny_model, input_dir, tmp_path / "out", "--dry_run", "--class_id", "all"))
    assert (code, error) == (2, "--class_id all: the model is unconditional, it has no classes")


def test_the_models_settings_are_checked_for_a_class(adagn, input_dir, tmp_path, capsys):
    args = ("--check_model", "--class_id", 2)
    assert run_here(*run_args(adagn, input_dir, tmp_path / "out", *args)) == (0, "")
    assert "loss" in capsys.readouterr().out


def test_lucidrains_class_conditional_network_is_refused_by_name(tmp_path):
    names = ("init_conv.weight", "time_mlp.1.weight", "classes_emb.weight", "null_classes_emb", "classes_mlp.0.weight")
    torch.save(
        {"model": {f"model.{name}": torch.zeros(2, 2) for name in (*names, "final_conv.weight")}}, tmp_path / "m.pt"
    )
    with pytest.raises(
        InputError, match="denoising-diffusion-pytorch's class-conditional network, another than its Un"
    ):
        load_model(tmp_path / "m.pt")


@pytest.mark.parametrize(("more", "copies"), [((), 1), (("--guidance_scale", 3), 2)])
def test_a_compiled_batch_has_room_for_both_halves(adagn, input_dir, tmp_path, monkeypatch, more, copies):
    made = []

    def compiled(network, shape, device, told, takes_class):
        made.append((shape, takes_class))
        return network

    monkeypatch.setattr(job_module, "Compiled", compiled)
    args = run_args(adagn, input_dir, tmp_path / "out", "--compile", "--n_samples", 5, "--class_id", 1, *more)
    assert run_here(*args) == (0, "")
    assert made == [((copies * 5, 3, 16, 16), True)]
