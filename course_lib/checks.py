"""The checks at the doors of the library: what was given, what was expected, what to do.

Who calls a function from a notebook is told of a wrong argument here, by name: `typed` holds the arguments
against their annotations, the others look at ranges and shapes. The mathematics behind the doors trusts its
arguments.
"""
import functools
import inspect
import math
import operator
import sys
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def typed(f):
    """The function f, with every argument held against its annotation first; of a class, its constructor.

    ValueError where one does not fit. The annotation says of which kind an argument is, and no more: ranges
    and shapes are the function's own affair, and so are numbers and lists of texts. What has no annotation
    passes.
    """
    if inspect.isclass(f):
        f.__init__ = typed(f.__init__)
        return f
    signature = inspect.signature(f)

    @functools.cache
    def looked_at():  # at the first call, when every name in the annotations exists
        hints = typing.get_type_hints(f)
        return {name: hints[name] for name, p in signature.parameters.items() if name in hints
                and p.kind not in STARRED and not any(part in OTHERS for part in _either(hints[name]))}

    @functools.wraps(f)
    def checked(*args, **kwargs):
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # too many, too few, unknown ones: Python says it well
            return f(*args, **kwargs)
        for name, hint in looked_at().items():
            if name in given and not fits(given[name], hint):
                raise ValueError(f"{name} must be {words(hint)}; given {kind(given[name])}")
        return f(*args, **kwargs)
    return checked


STARRED = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD  # *args, **kwargs
OTHERS = int, float, list[str]  # `whole`, `number` and `texts` look at them
WORDS = {Tensor: "a tensor of real numbers", int: "a whole number", float: "one number, finite",
         str: "a text", Callable: "a function", type(None): "None",
         torch.Generator: "a torch.Generator, such as torch.Generator().manual_seed(0),"}


def fits(value, hint) -> bool:
    """Is the value what its annotation says? One that says nothing of a kind, such as object, fits all."""
    if hint is Tensor:
        return isinstance(value, Tensor) and not value.is_complex()
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if len(_either(hint)) > 1:
        return any(fits(value, part) for part in _either(hint))
    if kind in (int, float):
        try:
            (whole if kind is int else number)(value, -math.inf)
            return True
        except ValueError:
            return False
    if kind in (list, tuple, Sequence):  # a list may be a tuple, and a sequence a tensor
        rows = (list, tuple) if kind is not Sequence else (Sequence, Tensor, np.ndarray)
        return isinstance(value, rows) and not isinstance(value, str | bytes) and (
            not parts or all(fits(v, parts[0]) for v in value))
    if kind in (dict, Mapping):
        return isinstance(value, kind) and all(
            fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items() if parts)
    if getattr(kind, "_is_protocol", False):
        return not inspect.isclass(value) and all(hasattr(value, name) for name in _asked(kind))
    return isinstance(value, kind) if inspect.isclass(kind) else True


def words(hint) -> str:
    """An annotation, said in words."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if len(_either(hint)) > 1:
        return " or ".join(map(words, _either(hint)))
    if kind in WORDS:
        return WORDS[kind]
    if kind in (list, tuple, Sequence):
        return f"a list, each of it {words(parts[0])}" if parts else "a list"
    if kind in (dict, Mapping):
        return f"a dict, each value {words(parts[1])}" if parts else "a dict"
    if getattr(kind, "_is_protocol", False):
        return f"something that has {', '.join(_asked(kind))}"
    return f"of type {kind.__name__}"


def _either(hint) -> tuple:
    """The parts of `one | other`; of anything else, the thing itself."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _asked(protocol) -> list[str]:
    """The methods that a protocol asks for."""
    return sorted(name for c in protocol.__mro__ for name in vars(c)
                  if getattr(c, "_is_protocol", False) and not name.startswith("_"))


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


def counts(**values) -> None:
    """ValueError where one of the values is no whole number from 1 on."""
    for name, value in values.items():
        whole(value, 1, what=name)


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


def numbers(**values) -> None:
    """ValueError where one of the values is no finite number."""
    for name, value in values.items():
        number(value, -math.inf, what=name)


def channels(**values) -> None:
    """ValueError where one of the values is no multiple of 8: a GroupNorm makes 8 groups of the channels."""
    for name, value in values.items():
        if whole(value, 8, what=name) % 8:
            raise ValueError(f"{name} must be a multiple of 8, for GroupNorm makes 8 groups of the channels; "
                             f"given {value}")


def choice(value, allowed: Sequence, what: str):
    """value, if it is one of the allowed; else ValueError that lists them."""
    if not any(value is option or value == option for option in allowed if isinstance(value, type(option))):
        raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(map(repr, allowed))}")
    return value


def floats(x: Tensor, what: str) -> Tensor:
    """x, if it is a tensor of floats; else ValueError. Looks at no number."""
    if not torch.is_tensor(x) or not x.is_floating_point():
        raise ValueError(f"{what} must be a tensor of floats, given {kind(x)}")
    return x


def finite(x: Tensor, what: str) -> Tensor:
    """x, if it is a tensor of finite floats; else ValueError."""
    floats(x, what)
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


def labels(x: Tensor, most: int, what: str = "label", note: str = "") -> Tensor:
    """x, if it is a tensor (B,) of whole numbers in 0 .. most; else ValueError. note: what `most` means."""
    if not torch.is_tensor(x) or x.ndim != 1 or x.dtype != torch.long or not (
            capturing() or ((x >= 0) & (x <= most)).all()):
        shown = f": {x.tolist()[:8]}" if torch.is_tensor(x) and x.ndim == 1 else ""
        raise ValueError(f"{what} must be whole numbers (B,) in 0 .. {most}{note}, given {kind(x)}{shown}")
    return x


def weights(x: Tensor, n: int, what: str) -> Tensor:
    """x, if it is a tensor of n numbers, none negative, not all 0; else ValueError."""
    if x.shape != (n,) or not (x >= 0).all() or not 0 < x.sum() < math.inf:
        raise ValueError(f"{what} must be {n} numbers, none negative, not all 0; given {kind(x)}")
    return x


def texts(texts: Sequence[str]) -> list[str]:
    """A list of the texts, if they are a list or tuple of strings; else TypeError."""
    if isinstance(texts, str):
        raise TypeError(f"expected a list of texts, given one text: [{texts!r}]?")
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"expected a list of texts, given {texts!r:.80}")
    return list(texts)


def kind(x) -> str:
    """What x is, for a message: dtype and shape of a tensor or of numpy's array, else the thing itself."""
    if isinstance(x, Tensor | np.ndarray):
        return f"{'numpy ' * (not torch.is_tensor(x))}{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
    return repr(x)[:60]


def capturing() -> bool:
    """Is a CUDA graph being recorded? Then no number may be looked at."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def warn(message: str) -> None:
    """A warning that points to the line outside the library (and torch) that led to it."""
    level, frame = 1, sys._getframe()
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("course_lib", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
