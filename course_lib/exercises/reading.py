"""How an answer is read: whatever container it comes in, as tensors that the next cell can use.

An outcome is a tuple of tensors, None, `...`, or the exception that stopped the function. A part of the tuple
that is not written yet is `...`.
"""
import functools
import numbers
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .sandbox import TimeUp


class Unusable(Exception):
    """The result is of a kind that no later cell could use. The text says what to return."""


def outcome(f: Callable, args: tuple, parts: int | None = None):
    """What f returns for args, as a tuple of tensors; or the exception that stopped it.

    parts: how many tensors are expected; None: as many as there are in the tuple that f returns.
    """
    try:
        out = f(*args)
        parts = parts or (len(out) if isinstance(out, tuple) else 1)
        return out if out is None or out is ... else tuple(map(_here, split(out, parts)))
    except (KeyboardInterrupt, TimeUp):
        raise
    except BaseException as error:  # whatever the learner's code raises becomes a diagnosis
        return error


def _here(p):
    if p is not ... and p.is_meta:
        raise Unusable("it returns a tensor on the device meta, which holds no numbers.")
    return p if p is ... else p.detach().cpu()


def split(out, parts: int) -> list:
    """A result as a list of tensors; where several parts are expected, some may still be `...`."""
    if parts == 1:
        return [tensor(out)]
    several = out if isinstance(out, tuple | list) else [out]
    return [... if p is ... or p is None else tensor(p) for p in several]


def tensor(v) -> Tensor:
    """v as a tensor: numpy arrays, numbers, and lists of them can be used, other things cannot."""
    if torch.is_tensor(v):
        return v.to_dense() if v.layout != torch.strided else v
    if isinstance(v, numbers.Number | np.generic):
        return torch.as_tensor(v if isinstance(v, int | complex | np.generic) else np.float64(v))
    if isinstance(v, tuple | list | range):
        return _stacked(v)
    if isinstance(v, Iterator):
        raise Unusable(f"it returns a {type(v).__name__}, which can be read only once: collect the results "
                       "in a list, and return torch.stack(...) or torch.tensor(...) of it.")
    try:
        return torch.from_numpy(np.array(v))  # a copy: torch cannot read backwards, as in a[::-1]
    except (TypeError, ValueError):
        raise Unusable(f"it returns a {type(v).__name__}, and whatever uses it stops with an error: return a "
                       "tensor.") from None


def _stacked(items):
    if any(p is ... or p is None for p in items):
        raise Unusable("some entries of what it returns are not there yet.")
    if all(isinstance(p, int | float) for p in items):
        return torch.from_numpy(np.array(items))
    tensors = [tensor(p) for p in items]
    if len({p.shape for p in tensors}) > 1:
        raise Unusable(f"it returns {len(items)} tensors of different shapes, expected 1.")
    return torch.stack(tensors)


def reading(f: Callable, parts: int) -> Callable:
    """f, with its result as a tensor or a tuple of tensors, whatever container or numbers it returns."""
    @functools.wraps(f)
    def call(*args, **named):
        out = split(f(*args, **named), parts)
        if len(out) != parts or any(p is ... for p in out):
            raise Unusable(f"it returns {len(out)} results, expected {parts} tensors.")
        return out[0] if parts == 1 else tuple(out)
    return call


def usable(f: Callable, types: list[torch.dtype | None]) -> Callable:
    """f, with its results in the form that the next cell counts on: tensors of these types.

    None stands for the type of the first tensor of floats among the arguments: "like x0". They get the device
    of the first tensor among the arguments.
    """
    read = reading(f, len(types))

    @functools.wraps(f)
    def call(*args, **named):
        given = [v for v in (*args, *named.values()) if torch.is_tensor(v) and v.ndim]
        floats = next((v.dtype for v in given if v.is_floating_point()), torch.get_default_dtype())
        out = read(*args, **named)
        parts = out if len(types) > 1 else (out,)
        parts = tuple(_as(p, dtype or floats) for p, dtype in zip(parts, types, strict=True))
        if given:
            parts = tuple(p.to(given[0].device) for p in parts)
        return parts if len(types) > 1 else parts[0]
    return call


def _as(p, dtype):
    if p.is_complex():
        p = p.real  # the rest was judged to be 0
    if dtype == torch.bool and p.is_floating_point():
        p = p == 0  # a mask to be added: 0 for what counts, -inf for the rest
    elif p.is_floating_point() and not dtype.is_floating_point:
        p = p.round()
    return p.to(dtype)
