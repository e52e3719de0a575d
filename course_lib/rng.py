"""Random numbers that one seed makes the same on every device.

PyTorch refuses a generator of one device for numbers on another. So everything is drawn where the generator
lives, and moved then; without a generator it is drawn on the device itself, from torch's global state.
"""
import torch
from torch import Tensor


def place(device, generator: torch.Generator | None):
    """Where to draw numbers that are needed on `device`."""
    return device if generator is None else generator.device


def normal(shape, generator: torch.Generator | None = None, device=None, dtype=None) -> Tensor:
    """N(0, I) of this shape, on `device`."""
    where = place(device, generator)
    return torch.randn(shape, dtype=dtype, device=where, generator=generator).to(device)


def uniform(shape, generator: torch.Generator | None = None, device=None) -> Tensor:
    """Even in [0, 1), of this shape, on `device`."""
    return torch.rand(shape, device=place(device, generator), generator=generator).to(device)


def whole(low: int, high: int, shape, generator: torch.Generator | None = None, device=None) -> Tensor:
    """Whole numbers, each of low .. high - 1 as likely, of this shape, on `device`."""
    return torch.randint(low, high, shape, device=place(device, generator), generator=generator).to(device)
