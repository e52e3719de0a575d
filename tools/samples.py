"""Draw docs/samples.png, the picture at the top of the README: python tools/samples.py

Forty samples of sd64, none picked: every eighth caption of the held-out split, combinations of words that no
network of the course was trained on.
"""
from pathlib import Path

import torch
from PIL import Image

from course_lib import data, recipes, viz
from course_lib.samplers import ddpm

captions = data.emoji(64, split="held_out").captions[::8][:40]
rule = ddpm(generator=torch.Generator().manual_seed(0))
drawn = recipes.load("sd64").generate(captions, 40, w=2.0, step=rule)
sheet = Image.fromarray(viz.tile(drawn, columns=10, gap=4))
path = Path(__file__).resolve().parent.parent / "docs" / "samples.png"
path.parent.mkdir(exist_ok=True)
sheet.resize((1350, 1350 * sheet.height // sheet.width), Image.Resampling.BICUBIC).save(path, optimize=True)
print(path.name, sheet.size)
