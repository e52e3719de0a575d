"""Diffusion against VAE on equal terms. Writes benchmarks/vae.csv, which notebook 04 tabulates.

    python benchmarks/vae.py              # about 45 minutes on one CPU core

Faces at 64 px, the same decoder, 3.5 M parameters and the same minutes for both. Latent diffusion: an
auto-encoder with a small beta and a U-Net on its latents, half of the minutes each. VAE: one
auto-encoder for all of the minutes, whose encoder is as much wider as the U-Net is large. Its beta is the
best of five by energy distance on seed 0; only the best has two seeds more.
"""
import argparse
import time
from pathlib import Path

import table
import torch
from factor import STEPS, N, features, through, timed
from tqdm.auto import tqdm

from course_lib import data, metrics, samplers
from course_lib.denoiser import Denoiser, predict_eps, predict_x0
from course_lib.nets.autoencoder import KLAutoencoder, encoder
from course_lib.nets.unet import UNet
from course_lib.schedules import Cosine

BETAS, SEEDS = (0.1, 0.3, 1, 3, 10), 3
faces = data.emoji(64, "faces")
x = data.to_float(faces.pictures)
pick = lambda seed: x[next(faces.draws(N, generator=torch.Generator().manual_seed(seed)))]


def diffusion(seconds):
    """Trained: (noise -> pictures, auto-encoder, networks, calls a picture)."""
    codec, _ = timed(KLAutoencoder(), faces.batches(16), seconds / 2, lr=2e-3)
    z = through(codec.encode, x)
    model = Denoiser(UNet((64, 96), channels=8), Cosine(), predict_x0, loss_as=predict_eps, floor=5**-0.5)
    model, _ = timed(model, map(z.__getitem__, faces.draws(32)), seconds / 2, lr=1e-3)
    finish = lambda noise: samplers.draw(model, model.schedule, noise, STEPS, samplers.dpmpp_2m())
    return lambda noise: codec.decode(finish(noise)), codec, (codec, model), STEPS


def vae(seconds, beta):
    """The same for a VAE."""
    model = KLAutoencoder(beta=beta)
    model.encoder = encoder(2 * model.channels, coarse=320)
    model, _ = timed(model, faces.batches(16), seconds, lr=2e-3)
    return model.decoder, model, (model,), 1


def measure(name, seed, trained, beta):
    """One row: N samples against N real faces, and the auto-encoder's own error."""
    draw, codec, networks, calls = trained
    noise = torch.randn(N, 8, 8, 8, generator=torch.Generator().manual_seed(seed))
    start = time.monotonic()
    fake = through(draw, noise)
    seconds = time.monotonic() - start
    truth, fake = features(pick(seed)), features(fake)
    overlap = metrics.precision_recall(truth, fake)
    error = ((through(lambda p: codec.decode(codec.encode(p)), x).clamp(-1, 1) - x) ** 2).flatten(1).mean(1)
    return {"model": name, "beta": beta, "seed": seed, "calls": calls,
            "parameters": sum(p.numel() for network in networks for p in network.parameters()),
            "sampling_ms": f"{1000 * seconds / N:.2f}",
            "distance": f"{metrics.energy_distance(fake, truth):.4f}",
            "precision": f"{overlap.precision:.3f}", "recall": f"{overlap.recall:.3f}",
            "psnr": f"{(10 * torch.log10(4 / error)).mean():.2f}"}


def main(minutes: float) -> None:
    rows, bar = [], tqdm(total=len(BETAS) + SEEDS - 1 + SEEDS)

    def add(*row):
        rows.append(measure(*row))
        bar.update()
        print(rows[-1])

    for beta in BETAS:
        torch.manual_seed(0)
        add("VAE", 0, vae(60 * minutes, beta), beta)
    best = min(rows, key=lambda row: float(row["distance"]))["beta"]
    for seed in range(1, SEEDS):
        torch.manual_seed(seed)
        add("VAE", seed, vae(60 * minutes, best), best)
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        add("diffusion", seed, diffusion(60 * minutes), KLAutoencoder().beta)
    a, b = features(pick(0)), features(pick(SEEDS))  # the floor: real faces against real faces
    overlap = metrics.precision_recall(a, b)
    rows.append({"model": "real", "distance": f"{metrics.energy_distance(a, b):.4f}",
                 "precision": f"{overlap.precision:.3f}", "recall": f"{overlap.recall:.3f}"})
    table.write(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=4, help="for each of the 10 trainings")
    main(**vars(parser.parse_args()))
