"""How small should the latent be? Writes benchmarks/factor.csv, which notebook 04 plots.

    python benchmarks/factor.py              # about 40 minutes on one CPU core

Faces at 64 px, shrunk by a factor of 1 (no auto-encoder), 2, 4 or 8 along each edge. Every factor gets
the same minutes for its auto-encoder, the same minutes for its diffusion model, and the same U-Net over
8 x 8 cells (small factors fold more numbers into a cell), so that a sampling step costs the same too.
Energy distance in random features of N samples to N real faces, for two seeds of the diffusion training;
and of real faces that only went through the auto-encoder: the floor under that factor.
"""
import argparse
import time
from collections import deque
from pathlib import Path

import table
import torch
from torch import nn
from tqdm.auto import tqdm

from course_lib import data, metrics, samplers, train
from course_lib.denoiser import Denoiser, predict_eps, predict_x0
from course_lib.nets.autoencoder import Parallel
from course_lib.nets.layers import Attention, ResBlock
from course_lib.nets.unet import UNet
from course_lib.schedules import Cosine

CHANNELS = {1: 3, 2: 3, 4: 4, 8: 8}  # of the latent: 12,288, 3,072, 1,024 and 512 numbers
WIDTH = {2: 32, 4: 64, 8: 128}  # of the auto-encoder's blocks: wider where there are fewer positions
BATCH, STEPS, SEEDS, N = 16, 20, 2, 500


class Squeeze(nn.Module):
    """A plain auto-encoder: pictures (B, 3, 64, 64) <-> latents (B, c, 64 / f, 64 / f)."""

    def __init__(self, f: int):
        super().__init__()
        c, w = CHANNELS[f], WIDTH[f]
        middle = lambda: [ResBlock(w, w), Attention(w) if f == 8 else ResBlock(w, w)]
        head = lambda out: [nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, out, 3, padding=1)]
        self.encode = Parallel(nn.Conv2d(3, c, f, stride=f), nn.Sequential(
            nn.PixelUnshuffle(f), nn.Conv2d(3 * f * f, w, 3, padding=1), *middle(), *head(c)))
        self.decode = nn.Sequential(nn.Conv2d(c, w, 3, padding=1), *middle(), *middle(),
                                    *head(3 * f * f), nn.PixelShuffle(f))

    def loss(self, x):
        """Mean squared error of the picture that comes back."""
        return ((self.decode(self.encode(x)) - x) ** 2).mean()


def timed(model, batches, seconds, lr):
    """Train for `seconds`, the learning rate decaying to the end of them: (averaged model, steps).

    How many steps that is comes from a trial of 100, which is thrown away."""
    start = {k: v.clone() for k, v in model.state_dict().items()}
    loss = lambda m, x: m.loss(x)
    deque(train.fit(model, loss, batches, 20), maxlen=0)  # the first steps are slower
    clock = time.monotonic()
    deque(train.fit(model, loss, batches, 100), maxlen=0)
    steps = int(seconds * 100 / (time.monotonic() - clock))
    model.load_state_dict(start)
    tick = deque(train.fit(model, loss, batches, steps, lr=lr, ema=0.99), maxlen=1).pop()
    return tick.ema.eval(), steps


@torch.inference_mode()
def through(function, x):
    """function on 50 pictures at a time."""
    return torch.cat([function(part) for part in x.split(50)])


def features(x):
    return metrics.random_features(x.clamp(-1, 1))


class Scaled:
    """A codec whose latents have mean 0 and variance 1 in every channel; no codec for factor 1."""

    def __init__(self, codec: Squeeze | None, x):
        self.codec, z = codec, through(codec.encode, x) if codec else x
        self.mean, self.std = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)
        self.z = (z - self.mean) / self.std

    def decode(self, z):
        """Latents -> pictures."""
        z = z * self.std + self.mean
        return self.codec.decode(z) if self.codec else z


def draw(model, space, seed):
    """N pictures by STEPS steps of DPM-Solver++ (2M), and the seconds that they took."""
    noise = torch.randn(N, *space.z.shape[1:], generator=torch.Generator().manual_seed(seed))
    finish = lambda x: samplers.draw(model, model.schedule, x, STEPS, samplers.dpmpp_2m())
    start = time.monotonic()
    pictures = through(lambda x: space.decode(finish(x)), noise)
    return pictures, time.monotonic() - start


def main(minutes: float) -> None:
    faces = data.emoji(64, "faces")
    x = data.to_float(faces.pictures)
    pick = lambda seed: next(faces.draws(N, generator=torch.Generator().manual_seed(seed)))
    truth = features(x[pick(0)])
    rows = []
    for f in tqdm(CHANNELS):
        torch.manual_seed(0)
        codec, ae_steps = None, 0
        if f > 1:
            codec, ae_steps = timed(Squeeze(f), faces.batches(BATCH), 60 * minutes, lr=2e-3)
        space = Scaled(codec, x)
        floor = metrics.energy_distance(features(through(space.decode, space.z[pick(1)])), truth)
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            net = UNet((64, 96), patch=8 // f, channels=CHANNELS[f])
            model = Denoiser(net, Cosine(), predict_x0, loss_as=predict_eps, floor=5**-0.5)
            batches = map(space.z.__getitem__, faces.draws(2 * BATCH))
            # factor 1 has no auto-encoder to train: its diffusion model gets those minutes
            model, steps = timed(model, batches, 60 * minutes * (1 if codec else 2), lr=1e-3)
            pictures, seconds = draw(model, space, seed)
            distance = metrics.energy_distance(features(pictures), truth)
            rows.append({"factor": f, "seed": seed, "numbers": space.z[0].numel(),
                         "autoencoder_steps": ae_steps, "diffusion_steps": steps,
                         "sampling_ms": f"{1000 * seconds / N:.1f}", "distance": f"{distance:.4f}",
                         "floor": f"{floor:.4f}"})
            print(rows[-1])
    table.write(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3, help="for each training")
    main(**vars(parser.parse_args()))
