"""A race on faces at 32 px: this course's recipe against the U-Net of diffusers, equal time each.

    python benchmarks/race.py --seconds 180 --seeds 0 1 2

Both train in the same loop (`train.fit`: AdamW, warm-up, cosine decay, EMA) on the same pictures
and make samples with the same sampler and 35 network calls. What differs:

- course: the recipe `faces`, a U-Net on folded pixels that outputs the clean picture;
- diffusers: `UNet2DModel` at full resolution that outputs the noise (Ho et al. 2020's linear
  schedule), with lr 1e-3, its channels chosen for about the same number of parameters.

The score is the Fréchet distance to the training faces on their 64 first principal components:
one line per seed, and a PNG with a row of real faces and two rows of each model's.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel
from PIL import Image
from torch import Tensor, nn

from course_lib import data, recipes, samplers
from course_lib.denoiser import Denoiser, predict_eps
from course_lib.metrics import frechet
from course_lib.samplers import heun
from course_lib.schedules import DDPM
from course_lib.train import fit


class Diffusers(nn.Module):
    """diffusers' U-Net as a net(x, t) -> same shape. Its timestep is ours minus one."""

    def __init__(self):
        super().__init__()
        self.unet = UNet2DModel(
            sample_size=32, block_out_channels=(32, 64, 64), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"))

    def forward(self, x, t):
        return self.unet(x, t - 1).sample


def train(model, batches, lr: float, ema: float, seconds: float) -> tuple[nn.Module, int]:
    """Train for `seconds`; the averaged model and its number of steps. The speed is measured on
    five steps first (and they are undone), so that the learning rate decays just in time."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    loss = lambda m, x: m.loss(x)
    for tick in fit(model, loss, batches, 7, lr=lr, ema=ema):
        if tick.step == 2:
            start = time.perf_counter()
    steps = max(1, int(seconds / ((time.perf_counter() - start) / 5)))
    model.load_state_dict(state)
    start = time.perf_counter()
    for tick in fit(model, loss, batches, steps, lr=lr, ema=ema):
        if tick.step == steps or time.perf_counter() - start > seconds:
            break
    return tick.ema, tick.step


def draw(model: nn.Module, n: int, seed: int, device) -> Tensor:
    """n pictures (n, 3, 32, 32) with 18 Heun steps: 35 network calls."""
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).to(device)
    done = []
    for part in x.split(250):
        done.append(samplers.draw(model, model.schedule, part, 18, heun()).clamp(-1, 1).cpu())
    return torch.cat(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("race.png"))
    args = parser.parse_args()

    faces = data.emoji(32, "faces")
    real = data.to_float(faces.pictures)
    flat = real.flatten(1).double()
    basis = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:64].T  # (3072, 64)
    features = lambda x: (x.flatten(1).double() - flat.mean(0)) @ basis
    print(f"{len(real)} faces; {args.seconds:.0f} s of training each on {args.device}, "
          f"{torch.get_num_threads()} threads", flush=True)

    rows = [real[:: max(1, len(real) // 16)][:16]]
    for seed in args.seeds:
        torch.manual_seed(seed)
        plan = recipes.get("faces")
        for name, model, batches, lr, ema in (
                ("course", plan.build(), faces.batches(16, args.device), plan.lr, plan.ema),
                ("diffusers", Denoiser(Diffusers(), DDPM(), predict_eps),
                 faces.batches(16, args.device), 1e-3, plan.ema)):
            torch.manual_seed(seed)
            best, steps = train(model.to(args.device), batches, lr, ema, args.seconds)
            x = draw(best, args.samples, seed, args.device)
            size = sum(p.numel() for p in model.parameters()) / 1e6
            print(f"seed {seed}  {name:10s} {size:.2f} M parameters  {steps:5d} steps  "
                  f"Frechet distance {frechet(features(real), features(x)):8.1f}", flush=True)
            if seed == args.seeds[0]:
                rows += [x[:16], x[16:32]]
    columns = min(len(row) for row in rows)
    picture = torch.cat([torch.cat(list(row[:columns]), 2) for row in rows], 1)  # (3, rows * 32, ...)
    image = Image.fromarray(np.ascontiguousarray(data.to_uint8(picture).permute(1, 2, 0)))
    image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST).save(args.out)
    print(f"{args.out}: a row of real faces, two of course, two of diffusers")


if __name__ == "__main__":
    main()
