"""How outcomes of functions are compared, and what is said about their difference."""
import dis
import inspect
import math
import traceback
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .reading import Unusable
from .sandbox import Ended

# ---- Comparing ---------------------------------------------------------------------------------

def same(a, b) -> bool:
    """Equal outcomes: the same kind of exception, or the same shapes and (nearly) numbers.

    b may be a twin's, in which a part `...` stands for anything.
    """
    if not (isinstance(a, tuple) and isinstance(b, tuple)):
        return type(a) is type(b)
    return len(a) == len(b) and all(
        q is ... or (p is not ... and close(p, q)) for p, q in zip(a, b, strict=True))


def close(p: Tensor, q: Tensor) -> bool:
    """The same shape and, whatever their types, the same numbers up to rounding."""
    wide = torch.complex128 if p.is_complex() or q.is_complex() else torch.float64
    return p.shape == q.shape and torch.allclose(p.to(wide), q.to(wide), rtol=1e-4, atol=1e-5, equal_nan=True)


def fits(a: tuple, b: tuple) -> bool:
    """As many tensors as in b, of the same shapes, without NaN or infinity."""
    return [p.shape for p in a] == [p.shape for p in b] and all(p.isfinite().all() for p in a)


def resembles(mine: list, twin: list, right: list) -> bool:
    """True if an answer goes wrong exactly as the twin does, on every case where the twin is wrong.

    Where the twin only ever raises, the answer must also be right on the cases that remain.
    """
    wrong = [not same(r, t) for t, r in zip(twin, right, strict=True)]
    numbers = any(w and isinstance(t, tuple) for w, t in zip(wrong, twin, strict=True))
    return any(wrong) and all(same(m, t if w else r) for m, t, r, w
                              in zip(mine, twin, right, wrong, strict=True) if w or not numbers)


def changed(given: list[tuple], untouched: list[tuple]) -> bool:
    """True if a tensor among the arguments is no longer what it was."""
    return any(torch.is_tensor(a) and not torch.equal(a, b)
               for case in zip(given, untouched, strict=True) for a, b in zip(*case, strict=True))


# ---- What is not there yet -----------------------------------------------------------------------

def is_blank(out, f: Callable) -> bool:
    """Nothing written yet: `...`, pass, `a = ...`, NotImplementedError, or a bare `return ...`."""
    if out is None:
        idle = ("NOP", "RESUME", "LOAD_CONST", "STORE_FAST", "COPY", "POP_TOP", "RETURN_")
        return all(i.opname.startswith(idle) for i in _code(f))
    return (out is ... or (isinstance(out, tuple) and all(p is ... for p in out))
            or ((_meets_dots(out) or _is_to_do(out, f)) and not half_done(out, f)))


def half_done(out, f: Callable) -> str | None:
    """If f stops at what is to be filled in, and other lines are written: a sentence that says where."""
    stored = [(a.argval, b.argval) for a, b in pairwise(_code(f)) if b.opname.startswith("STORE_FAST")]
    open_ = [names if isinstance(names, str) else names[0] for value, names in stored if value is ...]
    line = line_of(out, f)
    if _is_to_do(out, f):
        return f"the line `{line}` is still to be replaced." if len(open_) < len(stored) else None
    if not _meets_dots(out):
        return None
    if open_ and len(open_) < len(stored):
        return f"there is still a `...`: {' and '.join(f'`{name} = ...`' for name in open_)}."
    return f"there is still a `...` in the line `{line}`." if "..." in line.replace("[...", "") else None


def _is_to_do(out, f):
    """raise NotImplementedError in the function itself; torch also raises it, with a text."""
    return isinstance(out, NotImplementedError) and (not str(out) or "NotImplementedError" in line_of(out, f))


def _meets_dots(out):
    return isinstance(out, TypeError | AttributeError) and "ellipsis" in str(out).lower()


def _code(f):
    own = inspect.unwrap(f)
    return list(dis.get_instructions(own)) if hasattr(own, "__code__") else []


# ---- Sentences -----------------------------------------------------------------------------------

def stumble(error: BaseException, f: Callable) -> str:
    """An exception in the learner's function, as a sentence with the line that raised it."""
    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, Ended):
        error = error.__cause__
    message, line = (str(error).splitlines() or [""])[0].rstrip("."), line_of(error, f)
    where = f", at the line `{line}`" if line else ""
    advice = ""
    if isinstance(error, SystemExit):
        advice = " Leave out exit(), quit() and sys.exit(), which end Python: return the result."
    elif "must match the size of tensor" in message:
        advice = (" The two shapes do not fit: print them, and give the smaller one more axes, such as "
                  "v[:, None], or v[:, None, None, None] where v holds one number for each picture.")
    return f"it stops with {type(error).__name__}{': ' if message else ''}{message}{where}.{advice}"


def line_of(error, f: Callable) -> str:
    """The line of f in which an error was raised, or an empty text."""
    if not isinstance(error, BaseException):
        return ""
    file = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", None)
    lines = [s.line for s in traceback.extract_tb(error.__traceback__) if s.filename == file]
    return lines[-1] if lines and lines[-1] else ""


_WAYS_OFF = (
    (lambda r: -r, "the sign is wrong: {it} is minus what is expected."),
    (lambda r: r**2, "{it} is the square of what is expected: is a root missing?"),
    (lambda r: r.abs().sqrt(), "{it} is the root of what is expected: leave the root out."),
    (lambda r: 1 / r, "{it} is 1 divided by what is expected: it is upside down."),
)


def difference(mine: list, right: list, names: tuple[str, ...] = ()) -> str:
    """The general diagnosis of outcomes that are all tuples: what came out, and what was expected."""
    given, wanted = next((m, r) for m, r in zip(mine, right, strict=True) if not same(m, r))
    if len(given) != len(wanted):
        these = f": {', '.join(names)}" if names else ""
        return f"it returns {len(given)} tensors, expected {len(wanted)}{these}."
    i = next(i for i, (m, r) in enumerate(zip(given, wanted, strict=True)) if not close(m, r))
    it = f"result number {i + 1} ({names[i]})" if names else "the result"
    m, r = given[i], wanted[i]
    if m.shape != r.shape:
        return f"{it} has the shape {tuple(m.shape)}, expected {tuple(r.shape)}.{_shape(m, r)}"
    if m.is_complex():
        return f"{it} holds complex numbers. Take the real part of what should be real, with .real."
    if not m.isfinite().all():
        return f"{it} holds NaN or infinite numbers: what is divided by zero, or overflows?"
    every = [(m[i].double(), r[i].double()) for m, r in zip(mine, right, strict=True)]
    return _pattern(every, it) or _numbers(m, r, it)


def _shape(m, r):
    if m.shape == (1, *r.shape):
        return " Is it in a list of one, or is there a comma at the end of the return line?"
    if m.ndim == r.ndim == 2 and close(m.mT, r):
        return " It is transposed."
    return " The numbers are right." if m.numel() == r.numel() and close(m.flatten(), r.flatten()) else ""


def _pattern(every, it):
    """A simple relation between what came out and what is expected, on all test inputs; or None."""
    for way, sentence in _WAYS_OFF:
        if all(close(m, way(r)) for m, r in every):
            return sentence.format(it=it)
    m, r = (torch.cat([v.flatten() for v in each]) for each in zip(*every, strict=True))
    factor, shift = (m @ r / (r @ r)).item(), (m - r).mean().item()
    if close(m, factor * r) and abs(factor) > 1e-6:
        bits = " These are bits, and nats are expected." if abs(factor * math.log(2) - 1) < 1e-3 else ""
        return f"{it} is {factor:.4g} times what is expected.{bits}"
    if close(m, r + shift):
        return f"{it} is off by the same number everywhere: it should be {abs(shift):.4g} " + (
            "smaller." if shift > 0 else "larger.")
    return None


def _numbers(m, r, it):
    if m.dtype in (torch.float16, torch.bfloat16):
        return f"{it} is computed in {str(m.dtype)[6:]}, with three digits: keep the type of the inputs."
    m, r = m.double(), r.double()
    at = (m - r).abs().argmax()
    near = " It is close, but this is no rounding: look for an index that is off by one." if (
        (m - r).abs().max() < 0.01 * r.abs().max()) else ""
    return (f"the shape is right, the numbers are not: on a test input {it} holds "
            f"{m.flatten()[at]:.4g} where {r.flatten()[at]:.4g} is expected.{near}")
