"""The checks at the doors of the library: what was given, what was expected, what to do.

Who calls a function from a notebook is told of a wrong argument here, by name. The mathematics behind the
doors trusts its arguments.
"""
import math
import operator
import sys
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor


def whole(value, low: int, high: float = math.inf, what: str = "the number") -> int:
    """value, if it is a whole number in low .. high; else ValueError."""
    try:
        fits = not isinstance(value, bool) and low <= operator.index(value) <= high  # numpy's integers, too
    except TypeError:
        fits = False
    if not fits:
        limits = f"at least {low}" if high == math.inf else f"in {low} .. {high}"
        raise ValueError(f"{what} must be a whole number, {limits}; given {value!r}")
    return int(value)


def number(value, low: float, high: float = math.inf, what: str = "the number") -> float:
    """value, if it is a finite number in low .. high; else ValueError."""
    try:
        fits = not isinstance(value, str) and low <= float(value) <= high and math.isfinite(float(value))
    except (TypeError, ValueError, RuntimeError):  # no number, or a tensor of several
        fits = False
    if not fits:
        limits = "finite" if (low, high) == (-math.inf, math.inf) else (
            f"at least {low:g}" if high == math.inf else f"in {low:g} .. {high:g}")
        raise ValueError(f"{what} must be one number, {limits}; given {value!r}")
    return value


def choice(value, allowed: Sequence, what: str):
    """value, if it is one of the allowed; else ValueError that lists them."""
    if not any(value is option or value == option for option in allowed if isinstance(value, type(option))):
        raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(map(repr, allowed))}")
    return value


def finite(x: Tensor, what: str) -> Tensor:
    """x, if it is a tensor of finite floats; else ValueError."""
    if not torch.is_tensor(x) or not x.is_floating_point():
        raise ValueError(f"{what} must be a tensor of floats, given {kind(x)}")
    if not capturing() and not x.isfinite().all():
        raise ValueError(f"{what} holds {(~x.isfinite()).sum()} numbers that are NaN or infinite")
    return x


def pictures(x: Tensor, size: int | None = None, what: str = "pictures") -> Tensor:
    """x, if it can be pictures (B, 3, size, size) in about [-1, 1], not empty; size None: of any edge."""
    expected = f"(B, 3, {size}, {size})" if size else "(B, 3, H, W)"
    if not torch.is_tensor(x) or x.ndim != 4 or x.shape[1] != 3 or not x.numel() or (
            size and x.shape[2:] != (size, size)):
        raise ValueError(f"{what} must be {expected}, given {kind(x)}")
    if not x.is_floating_point() or (not capturing() and x.abs().max() > 10):
        raise ValueError(f"{what} must be floats in [-1, 1], given {kind(x)} in {x.min():g} .. {x.max():g}: "
                         "use data.to_float on 0 .. 255")
    return finite(x, what)


def texts(texts: Sequence[str]) -> list[str]:
    """A list of the texts, if they are a list or tuple of strings; else TypeError."""
    if isinstance(texts, str):
        raise TypeError(f"expected a list of texts, given one text: [{texts!r}]?")
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"expected a list of texts, given {texts!r:.80}")
    return list(texts)


def kind(x) -> str:
    """What x is, for a message: dtype and shape of a tensor, else its type."""
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" if torch.is_tensor(x) else repr(x)[:60]


def capturing() -> bool:
    """Is a CUDA graph being recorded? Then no number may be looked at."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def warn(message: str) -> None:
    """A warning that points to the line outside the library (and torch) that led to it."""
    level, frame = 1, sys._getframe()
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("course_lib", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
