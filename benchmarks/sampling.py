"""Quality against cost for the samplers on `faces32`: writes benchmarks/sampling.csv.

    python benchmarks/sampling.py            # about 15 minutes on two CPU cores

Energy distance of N samples to the training faces, in random-convolution features, for each
sampler and number of network calls, over several seeds. Algorithm 2 also runs all 1,000 steps.
Prints the figure that the course promises: 40 calls against 1,000.
"""
from pathlib import Path

import table
import torch
from tqdm.auto import tqdm

from course_lib import data, metrics, recipes, samplers

N, SEEDS = 128, 3
SAMPLERS = {  # with their numbers of steps; calls are counted
    "Algorithm 2": (samplers.ddpm, (10, 20, 40, 100, 1000)),
    "DDIM": (samplers.ddim, (6, 10, 20, 40)),
    "Heun": (samplers.heun, (3, 5, 10, 20)),  # two calls a step, but for the first and the last
    "DPM-Solver++ (2M)": (samplers.dpmpp_2m, (6, 10, 20, 40)),
}


def main() -> None:
    net = recipes.load("faces32")
    real = metrics.random_features(data.to_float(data.emoji(32, "faces").pictures))
    rows = []
    jobs = [(name, make, steps, seed) for name, (make, counts) in SAMPLERS.items()
            for steps in counts for seed in range(SEEDS)]
    for name, make, steps, seed in tqdm(jobs):
        g = torch.Generator().manual_seed(seed)
        step = make(generator=g) if name == "Algorithm 2" else make()
        x = torch.randn(N, 3, 32, 32, generator=g)
        times = []  # one entry a call
        counted = lambda x, t, times=times: times.append(t) or net(x, t)
        last = samplers.draw(counted, net.schedule, x, steps, step)
        distance = metrics.energy_distance(metrics.random_features(last), real)
        rows.append({"sampler": name, "calls": len(times), "seed": seed, "n": N,
                     "distance": f"{distance:.4f}"})
    table.write(Path(__file__).with_suffix(".csv"), rows)
    for name, calls in (("Algorithm 2", 1000), ("DPM-Solver++ (2M)", 20), ("DPM-Solver++ (2M)", 40)):
        d = torch.tensor([float(r["distance"]) for r in rows
                          if r["sampler"] == name and r["calls"] == calls])
        print(f"{name}, {calls} calls: {d.mean():.3f} +- {d.std() / len(d)**0.5:.3f} "
              f"(standard error, {len(d)} seeds)")


if __name__ == "__main__":
    main()
