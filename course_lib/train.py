"""Training: one loop for every model of the course.

`fit` is a generator: `for tick in fit(...)` hands control back after every optimizer step, so the
notebook itself decides when to plot, sample or stop. AdamW (Loshchilov & Hutter 2019) or Muon, warm-up and
cosine decay of the learning rate, gradient clipping, and a moving average of the weights (EMA).
"""
import contextlib
import copy
import math
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import checks, files
from .muon import Muon


class EMA:
    """A moving average of a model's weights, in `.model`: w_ema <- d w_ema + (1 - d) w.

    The decay d is ramped, min(decay, (1 + step) / (10 + step)), to forget the random start.
    (torch.optim.swa_utils.AveragedModel is the same without the ramp.)
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = checks.number(decay, 0, 1, "ema, the decay of the average,")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after optimizer step `step` = 1, 2, ..."""
        d = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - d)
        for a, b in zip(self.model.buffers(), model.buffers(), strict=True):
            a.copy_(b)


class StateError(ValueError):
    """A state to resume from that is not one of this model and these steps."""


class Tick(NamedTuple):
    """One finished optimizer step. loss and lr are floats, ema is the averaged model (eval mode),
    state() is everything that `fit(resume=...)` needs, as a flat dict of tensors."""
    step: int
    loss: float
    lr: float
    ema: nn.Module
    state: Callable[[], dict[str, Tensor]]


def learning_rate(step: int, steps: int, lr: float) -> float:
    """Linear warm-up over the first 5 % (at most 200) of the steps, then half a cosine to 2 %."""
    warmup = min(200, max(1, steps // 20))
    done = max(0.0, (step - warmup) / max(1, steps - warmup))
    return lr * min(step / warmup, 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def fit(model: nn.Module, loss_fn: Callable, batches: Iterator, steps: int, *, lr: float = 2e-3,
        ema: float = 0.999, max_norm: float = 1.0, seed: int | None = None,
        resume: dict[str, Tensor] | None = None, accelerator=None, bf16: bool = False,
        fast: bool = False, muon: bool = False) -> Iterator[Tick]:
    """Train `model` in place, one yield a step, after the step and its EMA update.

    loss_fn(model, batch) -> scalar. batches: endless. max_norm: longer gradients are shortened to it.

    resume: a `Tick.state()`; the run then continues as if it had not stopped, if all that is random comes
    from torch's global state (it is in there) or from `seed`. seed: step k draws from a random state that
    depends on (seed, k, process) alone, so a resumed run is the unstopped one to the bit, and every process
    draws its own pictures.

    accelerator: a Hugging Face Accelerator; each of its processes computes on its own batches and the
    gradients are averaged. bf16: compute in bfloat16 what allows it, faster on GPUs and on processors that
    have it. fast: on a GPU, record the step as a CUDA graph and replay it (`GraphStep`). muon: move matrices
    and kernels by `Muon` instead of AdamW.

    Raises FloatingPointError where the loss or its gradient is NaN or infinite; the model keeps
    its last good step. Raises ValueError where a number makes no sense, or the batches end.
    """
    _check_numbers(steps, lr, max_norm)
    model.train()
    average, batches = EMA(model, ema), iter(batches)
    optimizer = _optimizer(model, lr, fast, muon, bf16 or fast)
    optimizer.zero_grad()  # a run that was stopped, or met NaN, may have left a gradient
    first = _unpack(resume, model, average, optimizer, steps) if resume is not None else 0
    resume = None  # it is as large as the model, five times
    take = (GraphStep if fast else Step)(model, loss_fn, optimizer, max_norm, accelerator, bf16)
    for step in range(first + 1, steps + 1):
        rate = learning_rate(step, steps, lr)
        _sow(seed, step, accelerator)
        value = take(_next(batches, step - first, steps - first), step, rate)
        average.update(model, step)
        yield Tick(step, value, rate, average.model,
                   lambda step=step: _pack(step, model, average, optimizer))


class Step:
    """One optimizer step, operation by operation. Looks at loss and gradient before it moves a weight."""

    def __init__(self, model, loss_fn, optimizer, max_norm, accelerator, bf16):
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.max_norm, self.accelerator, self.bf16 = max_norm, accelerator, bf16
        self.device = next(model.parameters()).device.type

    def __call__(self, batch, step: int, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device, torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            loss = self.loss_fn(self.model, batch)
        if not torch.is_tensor(loss) or loss.ndim or not loss.requires_grad:
            raise ValueError("loss_fn must return one number to which a gradient leads, a tensor (); given "
                             f"{checks.kind(loss)}. Is there a torch.no_grad, or is everything frozen?")
        value = loss.detach() if self.accelerator is None else self.accelerator.reduce(loss.detach(), "mean")
        _check(value.item(), "loss", step, rate)
        loss.backward()
        if self.accelerator is not None and self.accelerator.num_processes > 1:
            for p in self.model.parameters():
                if p.grad is not None:  # frozen parts have none
                    p.grad = self.accelerator.reduce(p.grad, "mean")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        _check(norm.item(), "gradient", step, rate)  # one bad step would spoil weights and EMA
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value.item()


class GraphStep:
    """The same step as a CUDA graph: recorded once, then replayed, so that the GPU does not wait for Python.
    In bfloat16; all batches must have the shapes of the first.

    The first steps run operation by operation, on a stream of their own, as the recording asks for. A step
    whose gradient is not finite is skipped on the GPU itself (`found_inf` of the fused AdamW).
    """
    warmup = 3

    def __init__(self, model, loss_fn, optimizer, max_norm, accelerator, bf16):
        if next(model.parameters()).device.type != "cuda" or (accelerator and accelerator.num_processes > 1):
            raise ValueError("fast=True records a CUDA graph: it needs one NVIDIA GPU, with the model on it")
        self.model, self.loss_fn, self.optimizer, self.max_norm = model, loss_fn, optimizer, max_norm
        self.seen, self.graph, self.stream = 0, None, torch.cuda.Stream()

    def __call__(self, batch, step: int, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate)
        if self.graph is None and self.seen < self.warmup:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss, norm = self._step(batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            self.seen += 1
        else:
            if self.graph is None:
                self._record(batch)
            for mine, new in zip(_tensors(self.batch), _tensors(batch), strict=True):
                mine.copy_(new)
            self.graph.replay()
            loss, norm = self.result
        value = loss.item()
        _check(value, "loss", step, rate)
        _check(norm.item(), "gradient", step, rate)
        return value

    def _record(self, batch):
        self.batch, self.graph = copy.deepcopy(batch), torch.cuda.CUDAGraph()
        self.optimizer.zero_grad()
        with torch.cuda.graph(self.graph):
            self.result = self._step(self.batch)

    def _step(self, batch):
        self.optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            loss = self.loss_fn(self.model, batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.found_inf = (~(norm + loss.detach()).isfinite()).float()
        self.optimizer.step()
        return loss.detach(), norm


def _optimizer(model, lr, fast, muon, bf16):
    device = next(model.parameters()).device
    more = {"betas": (0.9, 0.99), "fused": device.type in ("cpu", "cuda"), "capturable": fast}
    lr = torch.tensor(lr, device=device) if fast else lr
    if not muon:
        return torch.optim.AdamW(model.parameters(), lr, **more)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    matrices = {id(m.weight) for m in layers if min(m.weight.flatten(1).shape) >= 16}  # else a few vectors
    inside = [p for p in model.parameters() if id(p) in matrices]
    others = [p for p in model.parameters() if id(p) not in matrices]
    return Muon(inside, others, lr, dtype=torch.bfloat16 if bf16 else torch.float32, **more)


def _sow(seed, step, accelerator):
    """A random state for each step of each process: what a step draws depends on nothing before it."""
    if seed is not None:
        rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
        torch.manual_seed(zlib.crc32(f"{seed} {step} {rank} {world}".encode()))


def _next(batches, k, steps):
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(f"the batches ended after {k - 1} of {steps} steps: give an endless iterator, such "
                         "as data.emoji(32).batches(16)") from None


def _check_numbers(steps, lr, max_norm):
    checks.whole(steps, 1, what="steps")
    checks.number(lr, 0, what="lr")
    if checks.number(max_norm, 0, what="max_norm") == 0:
        raise ValueError("max_norm = 0 would train nothing; the default is 1, and 1e9 is no limit")


def _tensors(batch) -> list[Tensor]:
    """All tensors of a batch: a tensor, or a dict or tuple of such."""
    if torch.is_tensor(batch):
        return [batch]
    parts = batch.values() if isinstance(batch, dict) else batch
    return [x for part in parts for x in _tensors(part)]


def _check(value: float, what: str, step: int, rate: float) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(f"the {what} is {value} at step {step} (learning rate {rate:.2g})."
                                 " Lower the learning rate, or look at the batch.")


def _pack(step, model, average, optimizer) -> dict[str, Tensor]:
    """Flatten a training run into one dict of named tensors (safetensors stores nothing else)."""
    state = {"step": torch.tensor(step), "rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["rng.cuda"] = torch.cuda.get_rng_state()
    state |= {f"model.{k}": v for k, v in model.state_dict().items()}
    state |= {f"ema.{k}": v for k, v in average.model.state_dict().items()}
    adam = optimizer.state_dict()["state"]
    state["moments"] = torch.tensor(len(adam))
    for i, moments in adam.items():
        state |= {f"adam.{i}.{k}": v for k, v in moments.items()}
    return {k: v.detach().clone() for k, v in state.items()}


def _unpack(state, model, average, optimizer, steps) -> int:
    """Put a state in its places; returns its step. Whatever does not fit, the error is a StateError."""
    try:
        step = int(state["step"])
        if not 0 < step <= steps:
            raise ValueError(f"it is at step {step}, and the run has the steps 1 .. {steps}")
        part = lambda name: {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
        files.fill(model, part("model."), "it")
        files.fill(average.model, part("ema."), "its average")
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _moments(
            part("adam."), [p.shape for group in optimizer.param_groups for p in group["params"]],
            int(state["moments"]))})
        torch.set_rng_state(state["rng.cpu"].cpu())
        if "rng.cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["rng.cuda"].cpu())
    except KeyError as error:
        raise StateError(f"the state to resume from lacks {error}") from None
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise StateError(f"the state to resume from does not fit: {error}") from None
    return step


def _moments(parts: dict[str, Tensor], shapes: list, count: int) -> dict[int, dict[str, Tensor]]:
    """What AdamW or Muon keeps, by the number of the parameter; one without a gradient has nothing."""
    moments: dict[int, dict] = {}
    for key, value in parts.items():
        i, name = key.split(".")
        moments.setdefault(int(i), {})[name] = value
    adam = lambda i: {"step": (), "exp_avg": shapes[i], "exp_avg_sq": shapes[i]}
    muon = lambda i: {"step": (), "momentum": shapes[i]}
    expected = {i: (muon if "momentum" in kept else adam)(i) for i, kept in moments.items()}
    given = {i: {k: v.shape for k, v in found.items()} for i, found in moments.items()}
    if given != expected or len(moments) != count:
        raise ValueError("it lacks a part of Adam's moments, or has another's")
    return moments
