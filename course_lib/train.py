"""Training: one loop for every model of the course, and checkpoints without pickle.

`fit` is a generator: `for tick in fit(...)` hands control back after every optimizer step, so the
notebook itself decides when to plot, sample or stop. AdamW (Loshchilov & Hutter 2019), warm-up and
cosine decay of the learning rate, gradient clipping, and a moving average of the weights (EMA).
"""
import copy
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class EMA:
    """A moving average of a model's weights, in `.model`: w_ema <- d w_ema + (1 - d) w.

    The decay d is ramped, min(decay, (1 + step) / (10 + step)), to forget the random start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after optimizer step `step` = 1, 2, ..."""
        d = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - d)
        for a, b in zip(self.model.buffers(), model.buffers(), strict=True):
            a.copy_(b)


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


def fit(model: nn.Module, loss_fn: Callable[[nn.Module, Tensor], Tensor], batches: Iterator,
        steps: int, *, lr: float = 2e-3, ema: float = 0.999, clip: float = 1.0,
        resume: dict[str, Tensor] | None = None, accelerator=None) -> Iterator[Tick]:
    """Train `model` in place, one yield a step, after the step and its EMA update.

    loss_fn(model, batch) -> scalar. resume: a `Tick.state()`; the run then continues as if it had
    not stopped (the random state comes along). accelerator: a Hugging Face Accelerator; each of
    its processes computes on its own batches and the gradients are averaged.
    Raises FloatingPointError where the loss or its gradient is NaN or infinite; the model keeps
    its last good step.
    """
    model.train()
    average = EMA(model, ema)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), fused=fused)
    first = _unpack(resume, model, average, optimizer) if resume else 0
    for step in range(first + 1, steps + 1):
        rate = optimizer.param_groups[0]["lr"] = learning_rate(step, steps, lr)
        if accelerator is None:
            loss = loss_fn(model, next(batches))
            value = loss.item()
        else:
            with accelerator.autocast():
                loss = loss_fn(model, next(batches))
            value = accelerator.reduce(loss.detach(), "mean").item()
        _check(value, "loss", step, rate)
        loss.backward()
        if accelerator is not None and accelerator.num_processes > 1:
            for p in model.parameters():
                if p.grad is not None:  # frozen parts have none
                    p.grad = accelerator.reduce(p.grad, "mean")
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        _check(norm.item(), "gradient", step, rate)  # one bad step would spoil weights and EMA
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step)
        yield Tick(step, value, rate, average.model,
                   lambda step=step: _pack(step, model, average, optimizer))


def _check(value: float, what: str, step: int, rate: float) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(f"the {what} is {value} at step {step} (learning rate {rate:.2g})."
                                 " Lower the learning rate, or look at the batch.")


def _pack(step, model, average, optimizer) -> dict[str, Tensor]:
    """Flatten a training run into one dict of named tensors (safetensors stores nothing else)."""
    state = {"step": torch.tensor(step), "rng": torch.get_rng_state()}
    state |= {f"model.{k}": v for k, v in model.state_dict().items()}
    state |= {f"ema.{k}": v for k, v in average.model.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        state |= {f"adam.{i}.{k}": v for k, v in moments.items()}
    return {k: v.detach().clone() for k, v in state.items()}


def _unpack(state, model, average, optimizer) -> int:
    part = lambda name: {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
    _fill(model, part("model."), "the state to resume from")
    _fill(average.model, part("ema."), "the state to resume from")
    moments: dict[int, dict] = {}
    for key, value in part("adam.").items():
        i, name = key.split(".")
        moments.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(state["rng"])
    return int(state["step"])


def save(path: str | Path, tensors: dict[str, Tensor], **meta) -> str:
    """Write tensors (and JSON-able facts about them) to a safetensors file; returns its sha256.

    Atomic: the file appears whole or not at all, also when the machine stops half way.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, unfinished,
              metadata={k: json.dumps(v) for k, v in meta.items()})
    with open(unfinished, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
        os.fsync(file.fileno())  # on the disk before the old file goes
    os.replace(unfinished, path)
    return digest


def read(path: str | Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file that `save` wrote, its hash verified where one is given."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}. Restore it with `git checkout -- data`, "
                                f"or train it: `python -m course_lib.recipes {path.stem}`.")
    found = hashlib.sha256(path.read_bytes()).hexdigest() if sha256 else None
    if found != sha256:
        raise ValueError(f"{path} is not the file that the manifest describes (sha256 {found[:12]}…,"
                         f" expected {sha256[:12]}…). Restore it with `git checkout -- data`.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). Restore it or train it again.") from None


def load(path: str | Path, model: nn.Module, sha256: str | None = None) -> nn.Module:
    """Fill `model` with the weights of a file; eval mode. Checks hash, names and shapes."""
    _fill(model, read(path, sha256), str(path))
    return model.eval()


def _fill(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    expected = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in tensors.items()}
    if expected != given:
        wrong = [f"{k}: {given.get(k, 'missing')} instead of {expected.get(k, 'nothing')}"
                 for k in sorted(expected.keys() | given.keys()) if expected.get(k) != given.get(k)]
        raise ValueError(f"{source} does not fit this model in {len(wrong)} tensors, such as "
                         f"{'; '.join(wrong[:3])}. Build the model that the checkpoint was made for.")
    model.load_state_dict(tensors)
