"""Two processes, one training: run by test_train.py, or by hand:

    torchrun --nproc_per_node 2 tests/two_processes.py

Each process trains on its half of every batch. The result must be that of one process on the
joint batch, on both processes, to the rounding of float64. A NaN in one process must stop both.
"""
import os

import torch
from accelerate import Accelerator
from torch import nn

from course_lib.denoiser import Denoiser, predict_v
from course_lib.schedules import DDPM
from course_lib.train import fit

STEPS = 6


class Net(nn.Module):
    """A small network in float64, with a frozen part that never gets a gradient."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(5, 16).requires_grad_(False)
        self.body = nn.Sequential(nn.SiLU(), nn.Linear(16, 4))
        self.double()

    def forward(self, x, t):
        return self.body(self.frozen(torch.cat([x, t[:, None] / 100], 1)))


def model():
    torch.manual_seed(0)
    return Denoiser(Net(), DDPM(100), predict_v)


def batches(rows):
    """Batches of (x_0, t, eps), the same everywhere; of each this process keeps `rows`."""
    g = torch.Generator().manual_seed(1)
    while True:
        x, eps = torch.randn(2, 8, 4, generator=g, dtype=torch.float64)
        t = torch.randint(1, 101, (8,), generator=g)
        yield x[rows], t[rows], eps[rows]


def train(data, accelerator=None):
    net = model()
    ticks = list(fit(net, lambda m, b: m.loss(*b), data, STEPS, lr=1e-2, ema=0.9,
                     accelerator=accelerator))
    return net, ticks


def main():
    accelerator = Accelerator(cpu=True)
    rank, count = accelerator.process_index, accelerator.num_processes
    assert count == 2, f"start this with two processes, not {count}"
    half = slice(4 * rank, 4 * rank + 4)
    (ours, ticks), (one, expected) = train(batches(half), accelerator), train(batches(slice(8)))
    (alone, _), start = train(batches(half)), model()
    for a, b in ((ours, one), (ticks[-1].ema, expected[-1].ema)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-9)
    for tick, other in zip(ticks, expected, strict=True):
        assert abs(tick.loss - other.loss) < 1e-9
    # the comparison can fail: training moved the weights, and half of the data moves them elsewhere
    far = lambda m: (m.net.body[1].weight - ours.net.body[1].weight).abs().max().item()
    assert far(start) > 1e-3 and far(alone) > 1e-4, (far(start), far(alone))

    def poisoned():
        for k, (x, t, eps) in enumerate(batches(half), 1):
            yield (x * float("nan") if k == 3 and rank == 1 else x), t, eps

    try:
        train(poisoned(), accelerator)
    except FloatingPointError as error:
        assert "at step 3" in str(error)
    else:
        raise AssertionError(f"process {rank} trained on")
    accelerator.wait_for_everyone()
    accelerator.print("two processes: ok", flush=True)
    os._exit(0)  # at once: gloo's threads, closed one process before the other, can abort the slower one


if __name__ == "__main__":
    main()
