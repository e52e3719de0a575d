"""The checks at the doors: what fits passes unchanged, what does not is named, a warning finds its line."""
import math
import types
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from course_lib import checks
from course_lib.nets import autoencoder
from course_lib.nets.autoencoder import Codec


@pytest.mark.parametrize(("value", "low", "high"), [
    (1, 1, math.inf), (10**30, 1, math.inf), (0, 0, 0), (-3, -3, 5)])
def test_whole_numbers_pass(value, low, high):
    assert checks.whole(value, low, high) is value


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, "1", None, True, math.nan, torch.tensor(1.5), [1]])
def test_what_is_no_whole_number_from_one_on(value):
    with pytest.raises(ValueError, match=r"^size must be a whole number, at least 1; given"):
        checks.whole(value, 1, what="size")


def test_both_ends_of_a_range_are_named():
    with pytest.raises(ValueError, match=r"^k must be a whole number, in 2 \.\. 5; given 6$"):
        checks.whole(6, 2, 5, "k")


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25), torch.tensor(1.0)])
def test_numbers_pass(value):
    assert checks.number(value, 0, 1) is value


@pytest.mark.parametrize("value", [
    -0.1, 1.1, math.nan, math.inf, "a", "0.5", None, torch.zeros(2), [0.5], 1j])
def test_what_is_no_number_in_a_range(value):
    with pytest.raises(ValueError, match=r"^p must be one number, in 0 \.\. 1; given"):
        checks.number(value, 0, 1, "p")


def test_the_limits_of_a_number_are_named():
    with pytest.raises(ValueError, match=r"^lr must be one number, at least 0; given -1"):
        checks.number(-1, 0, what="lr")
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^w must be one number, finite; given"):
            checks.number(value, -math.inf, what="w")
    assert checks.number(-1e9, -math.inf, what="w") == -1e9


@pytest.mark.parametrize("value", [16, 64, "all"])
def test_a_choice_passes(value):
    assert checks.choice(value, (16, 64, "all"), "size") == value


@pytest.mark.parametrize("value", [48, "64", "ALL", None, [16], torch.zeros(3), np.zeros(2)])
def test_another_choice_is_told_what_there_is(value):
    with pytest.raises(ValueError, match=r"^unknown size .*: choose one of 16, 64, 'all'$"):
        checks.choice(value, (16, 64, "all"), "size")


def test_finite_tensors_pass_unchanged():
    x = torch.tensor([1.0, -3e38])
    assert checks.finite(x, "x") is x and checks.finite(torch.ones(2).half(), "x").dtype == torch.float16


@pytest.mark.parametrize(("x", "named"), [
    (torch.tensor([1, 2]), r"z must be a tensor of floats, given int64 \(2,\)"),
    (np.zeros(2), r"z must be a tensor of floats, given numpy float64 \(2,\)"),
    (None, "z must be a tensor of floats, given None"),
    (torch.tensor([1.0, math.nan, math.inf, -math.inf]), "z holds 3 numbers that are NaN or infinite")])
def test_what_is_not_finite_is_named(x, named):
    with pytest.raises(ValueError, match=named):
        checks.finite(x, "z")


def test_pictures_pass_unchanged():
    for x in (torch.zeros(2, 3, 64, 64), 3 * torch.ones(1, 3, 64, 64), torch.zeros(1, 3, 64, 64).half()):
        assert checks.pictures(x, 64) is x
    x = torch.zeros(2, 3, 20, 30)
    assert checks.pictures(x) is x


@pytest.mark.parametrize(("x", "size", "named"), [
    (torch.zeros(3, 64, 64), 64, r"fakes must be \(B, 3, 64, 64\), given float32 \(3, 64, 64\)"),
    (torch.zeros(2, 3, 32, 32), 64, r"fakes must be \(B, 3, 64, 64\), given float32 \(2, 3, 32, 32\)"),
    (torch.zeros(2, 3, 64, 32), 64, r"given float32 \(2, 3, 64, 32\)"),
    (torch.zeros(2, 1, 64, 64), None, r"fakes must be \(B, 3, H, W\), given float32 \(2, 1, 64, 64\)"),
    (torch.zeros(0, 3, 64, 64), None, r"given float32 \(0, 3, 64, 64\)"),
    ([torch.zeros(3, 64, 64)], None, "given "), (None, None, "given None"),
    (torch.full((1, 3, 64, 64), 9, dtype=torch.uint8), 64,
     r"floats in \[-1, 1\], given uint8 .*9 \.\. 9: use data.to_float"),
    (torch.full((1, 3, 64, 64), 255.0), 64, r"given float32 .*255 \.\. 255: use data.to_float on 0 \.\. 255"),
    (torch.full((1, 3, 64, 64), -11.0), 64, r"given float32 .*-11 \.\. -11"),
    (torch.full((1, 3, 2, 2), math.inf), None, "fakes .*inf"),
    (torch.full((1, 3, 2, 2), math.nan), None, "fakes holds 12 numbers that are NaN or infinite")])
def test_what_are_no_pictures_is_named(x, size, named):
    with pytest.raises(ValueError, match=named):
        checks.pictures(x, size, "fakes")


def test_texts_become_a_list():
    assert checks.texts(("a", "")) == ["a", ""] and checks.texts([]) == []
    given = ["a"]
    assert checks.texts(given) is not given


@pytest.mark.parametrize(("texts", "named"), [
    ("red", r"expected a list of texts, given one text: \['red'\]\?"), (None, "given None"), (3, "given 3"),
    (["a", None], r"given \['a', None\]"), ([b"a"], "given"), ({"a": 1}, "given"), (["x" * 500, 1], "given")])
def test_what_is_no_list_of_texts_is_named(texts, named):
    with pytest.raises(TypeError, match=named) as error:
        checks.texts(texts)
    assert len(str(error.value)) < 160


def test_kinds_are_short():
    assert checks.kind(torch.zeros(2, 3, dtype=torch.int64)) == "int64 (2, 3)"
    assert checks.kind(np.zeros((2, 3), np.float32)) == "numpy float32 (2, 3)"
    assert checks.kind([1, 2]) == "[1, 2]" and len(checks.kind("x" * 500)) == 60


def module(name, source):
    """A module of this name, in a file of this name, that is not really there."""
    made = types.ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), made.__dict__)
    return made


def test_a_warning_points_outside_the_library():
    """Through modules of the library and of torch, in whatever order, to who called them."""
    inner = module("course_lib.inner", "from course_lib import checks\ndef warn(): checks.warn('deep')")
    outer = module("course_lib.systems.outer", "def door(f): return f()")
    torchs = module("torch.utils.wrapper", "def wrap(f, *more): return f(*more)")
    user = module("course_library", "def call(f): return f()")  # no part of it: a name that begins alike
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checks.warn("direct")
        torchs.wrap(outer.door, inner.warn)
        user.call(inner.warn)
    assert [(str(w.message), w.filename) for w in caught] == [
        ("direct", __file__), ("deep", __file__), ("deep", "course_library.py")]


def test_nothing_is_looked_at_while_a_graph_is_recorded(monkeypatch):
    """Without CUDA none is recorded; while one is, numbers pass unseen, shapes do not."""
    assert not checks.capturing()
    monkeypatch.setattr(checks, "capturing", lambda: True)
    x = torch.full((1, 3, 64, 64), math.nan)
    assert checks.finite(x, "x") is x and checks.pictures(x, 64) is x
    with pytest.raises(ValueError, match=r"must be \(B, 3, 64, 64\)"):
        checks.pictures(x[0], 64)


# ---- Arguments against their annotations ------------------------------------------------------------

@checks.typed
def door(x: torch.Tensor, f: Callable[[int], int] | None = None, names: Sequence[str] = (), *rest: str,
         codec: Codec | None = None, anything=None, row: dict[str, torch.Tensor] | None = None, n: int = 1):
    """What is typed."""
    return x


@pytest.mark.parametrize(("more", "named"), [
    ({"f": 3}, "f must be a function or None; given 3"),
    ({"names": "ab"}, "names must be a list, each of it a text; given 'ab'"),
    ({"names": ["a", 1]}, r"names must be a list, each of it a text; given \['a', 1\]"),
    ({"codec": object}, "codec must be something that has decode, encode or None; given <class"),
    ({"codec": autoencoder.Pixels}, "codec must be something that has decode, encode or None"),
    ({"row": {"a": 1}}, "row must be a dict, each value a tensor of real numbers or None"),
    ({"row": {1: torch.ones(1)}}, "row must be a dict")])
def test_an_argument_of_another_kind_is_named(more, named):
    with pytest.raises(ValueError, match=named):
        door(torch.ones(1), **more)


@pytest.mark.parametrize("x", [np.ones(2), [1.0], None, torch.ones(1, dtype=torch.complex64)])
def test_what_is_no_tensor_of_real_numbers_is_named(x):
    with pytest.raises(ValueError, match=r"^x must be a tensor of real numbers; given "):
        door(x)


def test_what_fits_its_annotation_passes():
    """Numbers, starred arguments and what has no annotation are not looked at."""
    x, codec = torch.ones(2), autoencoder.Pixels()
    assert door(x, int, ["a"], 5, codec=codec, anything=3, row={"a": x}, n="one") is x
    assert door(x, None, ("a", "b")) is x and door.__doc__ == "What is typed."
    with pytest.raises(TypeError, match=r"door\(\) missing 1 required positional argument: 'x'"):
        door()


def test_a_typed_class_looks_at_its_constructor():
    @checks.typed
    class Thing:
        def __init__(self, x: torch.Tensor):
            self.x = x
    assert Thing(torch.ones(1)).x == 1
    with pytest.raises(ValueError, match="x must be a tensor"):
        Thing(1)
