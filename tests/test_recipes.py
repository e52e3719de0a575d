"""Recipes: each builds, each shipped model loads, and latents of another codec are never used."""
import inspect
import json

import pytest
import torch

from course_lib import data, recipes, train
from course_lib.autoencoder import KLAutoencoder
from course_lib.denoiser import Denoiser, augment, predict_x0
from course_lib.schedules import Cosine
from course_lib.unet import UNet

NAMES = [name for name, f in vars(recipes).items() if inspect.isfunction(f)
         and f.__module__ == recipes.__name__ and not name.startswith("_")
         and inspect.signature(f).return_annotation is recipes.Recipe
         and not inspect.signature(f).parameters]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_the_same_model_twice(name):
    one, two = recipes.recipe(name).model.state_dict(), recipes.recipe(name).model.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))


@pytest.mark.parametrize("name", ["faces", "ae64", "vq64", "sr16to64", "sr16to64_regression", "classifier"])
def test_a_recipe_trains_in_bfloat16_too(name):
    plan = recipes.recipe(name)
    torch.manual_seed(0)
    batch, losses = next(plan.batches(None)), []
    for enabled in (False, True):
        torch.manual_seed(0)  # the same times and noise
        with torch.autocast("cpu", torch.bfloat16, enabled):
            losses.append(plan.loss(plan.model, batch))
    losses[1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.03)
    assert all(p.grad.isfinite().all() for p in plan.model.parameters() if p.grad is not None)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="'codec_recipe'; there are: faces, faces32"):
        recipes.recipe("codec_recipe")
    with pytest.raises(ValueError, match=r"no checkpoint 'ae65'; shipped are: .*ae64"):
        recipes.load("ae65")


@pytest.mark.parametrize("name", recipes._manifest())
def test_the_manifest_describes_what_is_shipped(name):
    entry, model = recipes._manifest()[name], recipes.load(name)
    model = getattr(model, "denoiser", model)  # of a system, the part that the recipe trained
    path = recipes.CHECKPOINTS / f"{name}.safetensors"
    assert path.stat().st_size < 8 * 2**20
    assert entry["parameters"] == sum(v.numel() for v in model.state_dict().values())
    assert entry["step"] == entry["of"] == recipes.recipe(name).steps, "shipped before it was finished"
    assert not model.training


def test_no_checkpoint_without_an_entry():
    assert {p.stem for p in recipes.CHECKPOINTS.glob("*.safetensors")} == set(recipes._manifest())


def test_a_run_goes_on_where_it_stopped_and_counts_all_steps(tmp_path, monkeypatch):
    pictures = data.emoji(16, "faces")
    tiny = lambda name: (torch.manual_seed(0), recipes.Recipe(
        Denoiser(UNet((8,), patch=2), Cosine(), predict_x0), lambda device: pictures.batches(4), steps=3))[1]
    monkeypatch.setattr(recipes, "recipe", tiny)

    def at(place):
        monkeypatch.setattr(recipes, "CHECKPOINTS", tmp_path / place)
        monkeypatch.setattr(recipes, "RUNS", tmp_path / place / "runs")

    def shipped():
        entry = recipes._manifest()["faces"]
        recipes.train.read(recipes.CHECKPOINTS / "faces.safetensors", entry["sha256"])
        return entry
    at("at once")
    recipes.run("faces")
    whole = shipped()
    at("in two parts")
    recipes.run("faces", stop_after=0)
    assert (shipped()["step"], shipped()["of"]) == (1, 3)
    recipes.run("faces")
    assert shipped()["sha256"] == whole["sha256"], "a stop should change nothing"
    assert (shipped()["step"], shipped()["of"], shipped()["precision"]) == (3, 3, "fp32")
    (recipes.RUNS / "faces.safetensors").unlink()  # only what is shipped is left: as many steps again
    recipes.run("faces")
    assert (shipped()["step"], shipped()["of"]) == (6, 6)


# ---- latents ------------------------------------------------------------------------------------

@pytest.fixture
def codec(tmp_path, monkeypatch):
    """A tiny codec in a place of its own; gives a function that ships it anew."""
    monkeypatch.setattr(recipes, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(recipes, "RUNS", tmp_path / "runs")
    everything = data.emoji
    few = lambda size, split="train": everything(size, "faces", split=split)
    monkeypatch.setattr(data, "emoji", few)
    build = lambda: recipes.Recipe(KLAutoencoder(fine=8, coarse=8), None, steps=1)
    monkeypatch.setattr(recipes, "recipe", lambda name: build() if name == "tiny" else recipes.Recipe(
        Denoiser(UNet((8,), channels=8), Cosine(), predict_x0), None, steps=1, codec="tiny"))

    def ship(seed, **others):
        torch.manual_seed(seed)
        digest = train.save(tmp_path / "checkpoints" / "tiny.safetensors", build().model.state_dict())
        (tmp_path / "checkpoints" / "manifest.json").write_text(
            json.dumps({"tiny": {"sha256": digest}} | others))
        return digest
    return ship


def test_latents_are_computed_once_and_in_order(codec, monkeypatch):
    codec(seed=0)
    z = recipes.latents("tiny", "val")
    pictures = data.to_float(data.emoji(64, split="val").pictures)
    assert torch.allclose(z, recipes.load("tiny").encode(pictures), atol=1e-4)
    train_split = recipes.latents("tiny")
    assert len(train_split) == len(data.emoji(64).pictures)
    assert next(recipes.latent_batches("tiny", 5)).shape == (5, 8, 8, 8)
    monkeypatch.setattr(KLAutoencoder, "encode", None)  # a second computation would stop here
    assert torch.equal(recipes.latents("tiny", "val"), z)


def test_latents_of_another_codec_are_never_read(codec):
    codec(seed=0)
    old = recipes.latents("tiny", "val")
    codec(seed=1)
    new = recipes.latents("tiny", "val")
    assert not torch.allclose(old, new, atol=0.1)
    codec(seed=0)
    assert torch.equal(recipes.latents("tiny", "val"), old)


def test_a_model_of_another_codecs_latents_is_refused(codec):
    digest = codec(seed=0)
    weights = recipes.recipe("latent").model.state_dict()
    own = train.save(recipes.CHECKPOINTS / "latent.safetensors", weights)
    entry = lambda codec_hash: {"latent": {"sha256": own, "codec_sha256": codec_hash}}
    codec(seed=0, **entry(digest))
    recipes.load("latent")
    codec(seed=1, **entry(digest))
    with pytest.raises(ValueError, match=r"latents of another tiny.*recipes latent"):
        recipes.load("latent")


# ---- super-resolution ---------------------------------------------------------------------------

def upscaler():
    torch.manual_seed(0)
    net = UNet((8, 16), patch=4, cond_ch=3)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


def test_an_upscaler_sees_the_small_picture_and_its_level():
    net, x, t = upscaler(), torch.randn(2, 3, 64, 64), torch.tensor([10, 500])
    low, level = torch.randn(2, 3, 16, 16), torch.tensor([0.1, 0.4])
    out = net(x, t, low_res=low, aug_level=level)
    assert out.shape == x.shape
    assert not torch.allclose(out, net(x, t, low_res=-low, aug_level=level), atol=1e-3)
    assert not torch.allclose(out, net(x, t, low_res=low, aug_level=level + 0.3), atol=1e-3)


@pytest.mark.parametrize(("given", "named"), [
    ({}, r"low_res must be \(2, 3, 16, 16\), given None"),
    ({"low_res": torch.zeros(2, 3, 64, 64)}, r"given \(2, 3, 64, 64\)"),
    ({"low_res": torch.zeros(2, 3, 16, 16)}, r"aug_level must be \(2,\)"),
    ({"low_res": torch.zeros(2, 3, 16, 16), "aug_level": torch.tensor(0.5)}, r"aug_level must be \(2,\)"),
])
def test_a_missing_small_picture_is_named(given, named):
    with pytest.raises(ValueError, match=named):
        upscaler()(torch.randn(2, 3, 64, 64), torch.tensor([1, 2]), **given)


def test_damage_keeps_the_variance():
    x = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    level = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    y = augment(x, level)
    assert torch.equal(y[0], x[0])
    assert (y.var((1, 2, 3)) - 1).abs().max() < 0.05  # 4 sd of a variance of 12,288 numbers
    share = (y * x).mean((1, 2, 3)) / (x * x).mean((1, 2, 3))
    assert torch.allclose(share, (1 - level**2).sqrt(), atol=0.05)
