"""Draw docs/samples.png, the picture at the top of the README: python tools/samples.py

The first 20 samples of each shipped network, none picked: above `faces32`, below `all32`.
"""
from pathlib import Path

import torch
from PIL import Image

from course_lib import recipes, samplers, viz

rows = []
for name in ("faces32", "all32"):
    net = recipes.load(name)
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(20, 3, 32, 32, generator=g)
    *_, last = samplers.sample(net, net.schedule, noise, 100, samplers.ddpm(generator=g))
    rows.append(last.x)
sheet = Image.fromarray(viz.tile(torch.cat(rows), columns=10, gap=2))
path = Path(__file__).resolve().parent.parent / "docs" / "samples.png"
path.parent.mkdir(exist_ok=True)
sheet.resize((3 * sheet.width, 3 * sheet.height), Image.Resampling.NEAREST).save(path, optimize=True)
print(path.name, sheet.size)
