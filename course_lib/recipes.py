"""How every shipped checkpoint was trained.

    python -m course_lib.recipes faces32                     # one CPU or GPU, resumes where it stopped
    accelerate launch -m course_lib.recipes faces32          # several GPUs
    torchrun --nproc_per_node 2 -m course_lib.recipes faces32    # two processes on a CPU
    ACCELERATE_MIXED_PRECISION=bf16 python -m course_lib.recipes sd64    # where the processor has bfloat16

A recipe is one function that returns a `Recipe`: model, batches, and the numbers that `fit` needs.
`run` trains it, saves its full state every minute under runs/, and at the end writes the averaged
weights in half precision to data/checkpoints/ and the facts to data/checkpoints/manifest.json.
"""
import argparse
import hashlib
import inspect
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from tqdm.auto import tqdm

from . import data, train
from .autoencoder import KLAutoencoder, VQAutoencoder
from .classifier import Classifier, labelled
from .clip import CLIP, pairs
from .denoiser import Denoiser, augment, drop, predict_eps, predict_x0
from .groups import directions, kmeans
from .schedules import Cosine
from .systems import StableDiffusion, captioned
from .text import Tokenizer
from .unet import Blind, Regression, UNet

CHECKPOINTS = data.FOLDER / "checkpoints"
RUNS = data.FOLDER.parent / "runs"


@dataclass
class Recipe:
    """model; batches: device -> endless batches; steps, lr, ema as in `train.fit`; seed; codec: the
    checkpoint whose latents the model learns, if it does; assemble: what `load` makes of model."""
    model: nn.Module
    batches: Callable[..., Iterator]
    steps: int
    lr: float = 1e-3
    ema: float = 0.999
    seed: int = 0
    loss: Callable = lambda model, x: model.loss(x)
    codec: str | None = None
    assemble: Callable[[nn.Module], object] = lambda model: model


def picture_denoiser(widths=(96, 128), patch: int = 4, **more) -> Denoiser:
    """A U-Net that outputs the clean picture; the loss is that of the noise it implies, with its
    weight SNR_t capped at 5 (Hang et al. 2023). more: what else `UNet` takes."""
    net = UNet(widths, patch=patch, **more)
    return Denoiser(net, Cosine(), predict_x0, loss_as=predict_eps, floor=5**-0.5)


def latent_denoiser(widths, **more) -> Denoiser:
    """The same for 8 x 8 x 8 latents."""
    return picture_denoiser(widths, patch=1, channels=8, **more)


def faces() -> Recipe:
    """The live model of notebook 02: 32 px faces, about a minute on two CPU cores. Not shipped."""
    pictures = data.emoji(32, "faces")
    return Recipe(picture_denoiser((32, 64), patch=2), lambda device: pictures.batches(16, device),
                  steps=700, lr=2e-3, ema=0.99)


def faces32() -> Recipe:
    """32 px faces, unconditional."""
    pictures = data.emoji(32, "faces")
    return Recipe(picture_denoiser(), lambda device: pictures.batches(32, device), steps=5_000, ema=0.998)


def all32() -> Recipe:
    """All emoji at 32 px, unconditional."""
    pictures = data.emoji(32, "all")
    return Recipe(picture_denoiser(), lambda device: pictures.batches(32, device), steps=9_000, ema=0.999)


def level16() -> Recipe:
    """16 px faces; with `blind16`, the comparison of notebook 02."""
    pictures = data.emoji(16, "faces")
    return Recipe(picture_denoiser((32, 48), patch=2), lambda device: pictures.batches(32, device),
                  steps=3_000, lr=2e-3)


def blind16() -> Recipe:
    """The same as `level16`, but the network is never told the noise level: its t is always 0."""
    plan = level16()
    plan.model.net = Blind(plan.model.net)
    return plan


def ae64() -> Recipe:
    """64 x 64 x 3 to 8 x 8 x 8 and back: the codec of every latent model."""
    return codec_recipe(KLAutoencoder(), steps=80_000, change=data.flip_and_shift)  # first 16,000 unchanged


def vq64() -> Recipe:
    """64 x 64 x 3 to 8 x 8 tokens and back: the pictures' alphabet of the small DALL-E."""
    # starts from the weights of ae64, all but the two layers at the latent, which have other shapes
    model = VQAutoencoder()
    own, old = model.state_dict(), train.read(CHECKPOINTS / "ae64.safetensors")
    model.load_state_dict({k: v.float() for k, v in old.items() if k in own and v.shape == own[k].shape},
                          strict=False)
    # squared error for 60,000 steps; pictures unchanged in the first 6,000, only flipped in the last 13,000
    return codec_recipe(model, steps=77_000, change=data.flip_and_shift)


def vae64() -> Recipe:
    """A classic VAE: the same auto-encoder with so large a beta that noise can be decoded."""
    return codec_recipe(KLAutoencoder(beta=10), steps=10_000)


def sr16to64() -> Recipe:
    """16 px to 64 px by diffusion; the small picture is damaged by up to half noise in training."""
    def loss(model, x):
        level = 0.5 * torch.rand(len(x), device=x.device)
        return model.loss(x, low_res=augment(data.shrink(x, 4), level), aug_level=level)
    return Recipe(picture_denoiser((48, 96), cond_ch=3), lambda device: data.emoji(64).batches(16, device),
                  steps=6_000, loss=loss)


def sr16to64_regression() -> Recipe:
    """16 px to 64 px by regression: the same network, asked for the picture at once."""
    plan = sr16to64()
    plan.model = Regression(plan.model.net)
    plan.loss = lambda model, x: ((model(data.shrink(x, 4)) - x) ** 2).mean()
    return plan


def ldm64() -> Recipe:
    """Latent diffusion on the latents of ae64, told which of 512 groups of look-alikes to draw."""
    model = latent_denoiser((96, 128), groups=512)
    def batches(device):  # the shares stay with the weights: so often is each group to be drawn
        group, model.net.share[:] = kmeans(directions(latents("ae64")), data.emoji(64).weights(), 512)
        return latent_batches("ae64", 64, device, group)
    # shipped: the same step as a CUDA graph on a GPU, each group's vector started at its mean direction
    return Recipe(model, batches, steps=55_000, codec="ae64",
                  loss=lambda model, batch: model.loss(batch[0], label=drop(batch[1], model.net.groups, 0.1)))


def ldm64_weak() -> Recipe:
    """A far smaller ldm64, trained for a short time: the mistakes that `autoguide` leads away from."""
    return Recipe(latent_denoiser((24, 24)), lambda device: latent_batches("ae64", 32, device), steps=3_000,
                  lr=2e-3, codec="ae64")


def sd64() -> Recipe:
    """Text to the latents of ae64; the text is read by the frozen text tower of clip."""
    batches = lambda device: captioned(data.emoji(64), latents("ae64"), load("clip"), 64, device)
    return Recipe(latent_denoiser((96, 112), text=128), batches, steps=80_000, codec="ae64",
                  loss=lambda model, batch: model.loss(batch[0], text=batch[1], mask=batch[2]),
                  assemble=lambda model: StableDiffusion(load("clip"), model, load("ae64")))


def latent_batches(codec: str, n: int, device=None, label=None) -> Iterator:
    """Endless batches of n scaled latents, drawn as `Emoji.batches` draws; with labels, if given as (N,)."""
    z = latents(codec).to(device)
    for i in data.emoji(64).draws(n):
        yield z[i.to(device)] if label is None else (z[i.to(device)], label[i].to(device))


def latents(codec: str, split: str = "train") -> torch.Tensor:
    """Scaled latents (N, ...) of one split, in the order of `data.emoji(64, split=split)`.

    All are computed once and kept under runs/. The file's name holds a hash of the codec's
    checkpoint and of the data, so that one made by another codec is never read.
    """
    key = hashlib.sha256((_manifest()[codec]["sha256"] + data.fingerprint()).encode()).hexdigest()
    path = RUNS / f"latents-{codec}-{key[:16]}.safetensors"
    everything = data.emoji(64, split="all")
    if not path.exists():
        model = load(codec)
        with torch.inference_mode():
            z = torch.cat([model.encode(data.to_float(x)) for x in
                           tqdm(everything.pictures.split(64), desc=f"latents of {codec}")])
        train.save(path, {"latents": z})
    return train.read(path)["latents"][torch.tensor([split in ("all", r["split"]) for r in everything.table])]


def codec_recipe(model: nn.Module, steps: int, change=lambda x: x) -> Recipe:
    """The recipe that the three codecs share; change: what is done to each batch of pictures."""
    return Recipe(model, lambda device: map(change, data.emoji(64).batches(16, device)), steps, lr=2e-3)


def classifier() -> Recipe:
    """Category, skin tone and style of an emoji; its features are those of the course's FID."""
    return Recipe(Classifier(), lambda device: labelled(data.emoji(64), 64, device), steps=6_000)


def clip() -> Recipe:
    """CLIP on captions, names, keywords and Chinese names of the training split."""
    emoji, words = data.emoji(64), tokenizer()
    return Recipe(CLIP(words), lambda device: pairs(emoji, words, 192, device), steps=1_500)


def tokenizer() -> Tokenizer:
    """The tokenizer of every text model: all words of the training split's texts."""
    return Tokenizer(row[c] for row in data.emoji(64).table for c in ("caption", "keywords", "chinese"))


def recipe(name: str) -> Recipe:
    """The recipe of that name, its model freshly initialised from the recipe's seed."""
    names = [k for k, f in globals().items() if inspect.isfunction(f) and f.__module__ == __name__
             and inspect.signature(f).return_annotation is Recipe and not inspect.signature(f).parameters]
    if name not in names:
        raise ValueError(f"no recipe {name!r}; there are: {', '.join(names)}")
    torch.manual_seed(0)
    return globals()[name]()


def load(name: str, device=None) -> nn.Module:
    """The shipped model of that name: averaged weights, eval mode, hash and shapes verified."""
    manifest = _manifest()
    if name not in manifest:
        raise ValueError(f"no checkpoint {name!r}; shipped are: {', '.join(manifest)}")
    path, plan = CHECKPOINTS / f"{name}.safetensors", recipe(name)
    if plan.codec and manifest[name]["codec_sha256"] != manifest[plan.codec]["sha256"]:
        raise ValueError(f"{name} was trained on the latents of another {plan.codec} than the one in "
                         f"{CHECKPOINTS}. Train it again: `python -m course_lib.recipes {name}`.")
    return plan.assemble(train.load(path, plan.model, manifest[name]["sha256"]).to(device))


def _manifest() -> dict:
    path = CHECKPOINTS / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {}


def run(name: str, steps: int | None = None, stop_after: float | None = None) -> None:
    """Train recipe `name` to the end, or for `stop_after` seconds; call again to go on.

    Resumes from runs/NAME.safetensors; where that is gone but a checkpoint is shipped, from the
    shipped weights with a fresh optimizer, for as many steps again. The manifest counts all of them.
    """
    accelerator, plan = Accelerator(), recipe(name)
    model, steps = plan.model.to(accelerator.device), steps or plan.steps
    codec = _manifest()[plan.codec]["sha256"] if plan.codec else ""
    path, resume, before, seconds_before, losses = RUNS / f"{name}{codec[:8]}.safetensors", None, 0, 0.0, []
    if path.exists():
        resume = train.read(path)
        before, seconds_before = int(resume["before"]), resume["seconds"].item()
    elif (CHECKPOINTS / f"{name}.safetensors").exists():
        train.load(CHECKPOINTS / f"{name}.safetensors", model)
        before, seconds_before = _manifest()[name]["step"], 60 * _manifest()[name]["minutes"]
    torch.manual_seed(plan.seed + accelerator.process_index)  # other noise on every process
    ticks = train.fit(model, plan.loss, plan.batches(accelerator.device), steps, lr=plan.lr,
                      ema=plan.ema, resume=resume, accelerator=accelerator)
    start = saved = time.monotonic()
    bar = tqdm(total=steps, desc=name, disable=not accelerator.is_main_process,
               initial=int(resume["step"]) if resume else 0)
    for tick in ticks:
        bar.update()
        losses = [*losses[-99:], tick.loss]
        bar.set_postfix(loss=sum(losses) / len(losses), refresh=False)
        now = time.monotonic()
        stop = stop_after is not None and now - start > stop_after
        if accelerator.is_main_process and (now - saved > 60 or stop or tick.step == steps):
            seconds = seconds_before + now - start
            counts = {"before": torch.tensor(before), "seconds": torch.tensor(seconds)}
            train.save(path, tick.state() | counts)
            facts = {"step": before + tick.step, "of": before + steps, "minutes": round(seconds / 60, 1),
                     "training_loss": round(sum(losses) / len(losses), 4),
                     "precision": "bf16" if accelerator.mixed_precision == "bf16" else "fp32"}
            _ship(name, tick.ema, plan, facts | ({"codec_sha256": codec} if codec else {}))
            saved = now
        if stop:
            break


def _ship(name, model, plan, facts) -> None:
    """Write the averaged weights in half precision, then the manifest that vouches for them."""
    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    digest = train.save(CHECKPOINTS / f"{name}.safetensors", weights, recipe=name)
    path, manifest = CHECKPOINTS / "manifest.json", _manifest()
    device = next(model.parameters()).device
    machine = f"CPU, {torch.get_num_threads()} thread(s), {platform.machine()}"
    manifest[name] = {
        "what": inspect.getdoc(globals()[name]), "sha256": digest,
        "parameters": sum(v.numel() for v in weights.values()),
        "lr": plan.lr, "ema": plan.ema, "seed": plan.seed, **facts,
        "machine": machine if device.type == "cpu" else torch.cuda.get_device_name(device)}
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(manifest, indent=1) + "\n")
    unfinished.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--steps", type=int, help="default: the recipe's own")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="stop early, resume later")
    run(**vars(parser.parse_args()))
