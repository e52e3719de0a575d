"""How a learner's function is run: for a limited time, and so that the kernel is afterwards as it was.

It is no prison: it protects against slips such as an endless loop, `torch.set_default_dtype(...)`,
`torch.sqrt = ...` or `exit()`. Whoever wants to end the kernel with `os._exit` can do so.
"""
import ctypes
import functools
import inspect
import os
import random
import signal
import sys
import threading
import types
from collections.abc import Callable
from contextlib import contextmanager, suppress
from time import monotonic, process_time

import numpy as np
import torch
from torch import nn

COURSE = __name__.split(".")[0]
WATCHED = (
    "builtins", "itertools", "functools", "math", "operator", "random", "time", "einops", "numpy",
    "numpy.linalg", "numpy.random", "torch", "torch.autograd", "torch.autograd.functional",
    "torch.distributions", "torch.fft", "torch.linalg", "torch.nn", "torch.nn.functional", "torch.nn.init",
    "torch.random", "torch.special",
)
CLASSES = (torch.Tensor, nn.Module, nn.Parameter, torch.autograd.Function, torch.distributions.Normal,
           torch.distributions.MultivariateNormal)


class TimeUp(BaseException):
    """The time is over. No Exception, so that `except Exception` in a loop does not swallow it."""


class Ended(Exception):
    """The learner's function wanted to end Python; its cause is what it raised, such as SystemExit."""


# ---- Time --------------------------------------------------------------------------------------

PATIENCE = 6  # so many times as long by the clock, where other programs leave little of the processor


def within(seconds: float, work: Callable):
    """work(), or TimeUp if it takes longer, in seconds of the processor: on a busy machine the clock runs
    faster. It strikes every 0.1 s: a bare `except:` may swallow it once."""
    by_signal = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    clock, used = monotonic(), process_time()
    over = lambda: process_time() - used >= seconds or monotonic() - clock >= PATIENCE * seconds
    stop = (_strike_by_signal if by_signal else _strike_by_thread)(seconds, over)
    try:
        try:
            return work()
        finally:
            stop()
    finally:  # again: TimeUp may have come in the middle of the first stop
        stop()


def _strike_by_signal(seconds, over):
    def strike(*_):
        if over():
            raise TimeUp
    handler = signal.signal(signal.SIGALRM, strike)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)

    def stop():
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
    return stop


def _strike_by_thread(seconds, over):
    """On Windows, and outside the main thread: a watcher sends the exception into the watched thread."""
    watched, done = ctypes.c_ulong(threading.get_ident()), threading.Event()
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch():
        pause = seconds
        while not done.wait(pause):
            if over():
                send(watched, ctypes.py_object(TimeUp))
            pause = 0.1
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()

    def stop():
        done.set()
        watcher.join()
        send(watched, None)  # takes back what was sent and has not struck yet
    return stop


# ---- State -------------------------------------------------------------------------------------

SETTINGS = (  # (read, write), bound here: a learner's `torch.get_default_dtype = ...` does not reach them
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device,
     lambda d, write=torch.set_default_device: write(None if d.type == "cpu" else d)),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch._C._get_cudnn_deterministic, torch._C._set_cudnn_deterministic),
    (torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
    (np.geterr, lambda how, write=np.seterr: write(**how)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (os.getcwd, os.chdir),
)
RANDOM = (
    (torch.get_rng_state, torch.set_rng_state),
    (lambda: torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
     torch.cuda.set_rng_state_all),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
)
START = (torch.float32, torch.device("cpu"), True)  # the first three settings, while answers are judged


class State:
    """What a function can change in the kernel besides its own arguments, to be restored later."""

    def __init__(self, with_random: bool = True):
        self.settings = [(read, write, read()) for read, write in SETTINGS]
        self.random = [(write, read()) for read, write in RANDOM] if with_random else []
        self.names = [(place, dict(vars(place))) for place in _places()]

    def restore(self) -> None:
        """Set everything back: settings, random states, and the names of modules and classes."""
        for place, names in self.names:
            _put_back(place, names)
        for read, write, value in self.settings:
            if read() != value:
                write(value)
        for write, value in self.random:
            write(value)


def _places():
    """Modules and classes whose functions a learner could replace, be it by mistake."""
    ours = [m for name, m in list(sys.modules.items()) if name.split(".")[0] == COURSE and m is not None]
    classes = {c for m in ours for c in vars(m).values()
               if isinstance(c, type) and c.__module__.split(".")[0] == COURSE}
    return [*(sys.modules[name] for name in WATCHED if name in sys.modules), *ours, *classes, *CLASSES]


def _put_back(place, names, also_new=True):
    """Give a module or class the names that it had, and, if wanted, remove those that it got since then."""
    now = vars(place)
    for name in [name for name, value in names.items() if name not in now or now[name] is not value]:
        setattr(place, name, names[name])
    if also_new and len(now) > len(names):
        for name in now.keys() - names.keys():
            if not inspect.ismodule(now[name]):  # a module that was imported meanwhile may stay
                with suppress(AttributeError, TypeError):
                    delattr(place, name)


_FIRST = {}


def remember() -> None:
    """Keep the functions of torch and of the course as they are now: with these the answers are judged."""
    for place in _places():
        _FIRST[place] = {**vars(place), **_FIRST.get(place, {})}


@contextmanager
def judging(f: Callable):
    """Inside: torch and the course as they start, the same random numbers each time, and f bound to its own
    name, as it is after its cell (a function may call itself). Afterwards the kernel is as it was.
    """
    kernel = State()
    try:
        with torch.inference_mode(False), bound(f):
            for place, names in _FIRST.items():
                _put_back(place, names, isinstance(place, type) or place.__name__.startswith(__package__))
            for (_, write), value in zip(SETTINGS, START, strict=False):
                write(value)
            for seed in (torch.default_generator.manual_seed, random.seed, np.random.seed):
                seed(0)
            yield
    finally:
        kernel.restore()


def guarded(f: Callable) -> Callable:
    """f, but after each call everything except the random states is as it was before."""
    state = State(with_random=False)

    @functools.wraps(f)
    def call(*args):
        try:
            with torch.inference_mode(False):
                return f(*args)
        except (Exception, KeyboardInterrupt, TimeUp):
            raise
        except BaseException as error:  # SystemExit, for example
            raise Ended from error
        finally:
            state.restore()
    return call


@contextmanager
def bound(f: Callable):
    """Inside, f finds itself under its own name, in its module or in the function around it."""
    own = inspect.unwrap(f)
    name, space = getattr(own, "__name__", ""), getattr(own, "__globals__", {})
    before = {name: space[name]} if name in space else {}
    cells = dict(zip(own.__code__.co_freevars, own.__closure__ or (), strict=True)) if space else {}
    empty = name in cells and cells[name] == types.CellType()
    try:
        space[name] = f
        if empty:
            cells[name].cell_contents = f
        yield
    finally:
        space.pop(name, None)
        space.update(before)
        if empty:
            del cells[name].cell_contents


remember()
