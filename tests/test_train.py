"""The training loop, its moving average, and runs that go on as if they had not stopped."""
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib import files
from course_lib.denoiser import Denoiser
from course_lib.schedules import DDPM
from course_lib.train import StateError, fit, learning_rate

ROOT = Path(__file__).resolve().parent.parent


class Net(nn.Module):
    """A small network with a buffer (which EMA copies) and with dropout (which draws numbers)."""

    def __init__(self, width=16):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, width), nn.SiLU(), nn.Dropout(0.1), nn.Linear(width, 4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, t):
        if self.training:
            self.calls += 1
        return self.body(torch.cat([x, t[:, None] / 100], 1))


def model(width=16):
    torch.manual_seed(0)
    return Denoiser(Net(width), DDPM(100))


def loss_fn(m, x):
    return m.loss(x)


def batches():
    """Endless, from torch's global random numbers, as emoji().batches."""
    while True:
        yield torch.randn(8, 4) * 0.5 + 1


def params(m):
    return torch.cat([p.detach().flatten() for p in m.parameters()])


# ------------------------------------------------------------------ fit

def test_fit_learns_and_yields_after_the_step():
    m = model()
    before, ticks = params(m), fit(m, loss_fn, batches(), 300, lr=1e-2)
    first = next(ticks)
    assert first.step == 1 and not torch.equal(params(m), before)
    losses = [first.loss] + [t.loss for t in ticks]
    assert len(losses) == 300 and sum(losses[-50:]) < 0.7 * sum(losses[:50])
    assert all(isinstance(v, float) for v in losses)


def test_learning_rate_warms_up_and_decays():
    rates = [learning_rate(s, 1000, 1e-3) for s in range(1, 1001)]
    assert rates[0] == pytest.approx(1e-3 / 50) and rates[49] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(2e-5) and rates.index(max(rates)) == 49
    assert rates[524] == pytest.approx(1e-3 * (0.02 + 0.98 / 2), rel=1e-2)  # half way down
    assert all(0 < learning_rate(s, n, 1.0) <= 1 for n in (1, 2, 7) for s in range(1, n + 1))
    ticks = list(fit(model(), loss_fn, batches(), 3, lr=1e-3))
    assert [t.lr for t in ticks] == [learning_rate(s, 3, 1e-3) for s in (1, 2, 3)]


def test_ema_is_the_hand_made_average():
    """w_ema <- d w_ema + (1 - d) w, d = min(decay, (1 + step) / (10 + step)); starts at the start."""
    m = model()
    average = params(m).double()
    for tick in fit(m, loss_fn, batches(), 40, lr=1e-2, ema=0.7):
        d = min(0.7, (1 + tick.step) / (10 + tick.step))
        average = d * average + (1 - d) * params(m).double()
        torch.testing.assert_close(params(tick.ema).double(), average, rtol=1e-5, atol=1e-6)
    assert tick.ema.net.calls == m.net.calls == 40  # buffers are copied
    assert not tick.ema.training and m.training
    assert not any(p.requires_grad for p in tick.ema.parameters())


def test_gradients_are_clipped():
    m = nn.Linear(1, 1, bias=False)
    seen = []
    m.weight.register_hook(lambda g: seen.append(g.norm().item()))
    huge = lambda m, x: 1e6 * m(x).sum()
    norms = []
    for _ in fit(m, huge, iter(torch.ones(3, 1, 1)), 3, max_norm=0.5):
        norms.append(m.weight.grad)
    assert seen == [1e6] * 3 and norms == [None] * 3  # and no gradient survives the step
    clipped = []
    step = torch.optim.AdamW.step
    try:
        torch.optim.AdamW.step = lambda self, *a: clipped.append(m.weight.grad.norm().item())
        list(fit(m, huge, iter(torch.ones(1, 1, 1)), 1, max_norm=0.5))
    finally:
        torch.optim.AdamW.step = step
    assert clipped == [pytest.approx(0.5, rel=1e-5)]


@pytest.mark.parametrize(("value", "what"), [("nan", "loss is nan"), ("inf", "loss is inf"),
                                             ("gradient", "gradient is nan")])
def test_bad_numbers_stop_with_step_and_rate_and_keep_the_weights(value, what):
    m, step = model(), 0

    def turns_bad(m, x):
        nonlocal step
        step += 1
        if step < 7:
            return m.loss(x)
        if value == "gradient":  # 0 times the infinite slope of the root at 0: the loss is still 0
            return (0 * m.loss(x)).sqrt()
        return m.loss(x) * float(value)

    with pytest.raises(FloatingPointError, match=rf"{what} at step 7 \(learning rate 0\.00") as error:
        for tick in fit(m, turns_bad, batches(), 20, lr=2e-3):
            good, average = params(m), params(tick.ema)
    assert tick.step == 6 and "Lower the learning rate" in str(error.value)
    assert torch.equal(params(m), good) and torch.isfinite(good).all()
    assert torch.equal(params(tick.ema), average) and torch.isfinite(average).all()


@pytest.mark.parametrize("where", ["loop", "loss"])
def test_ctrl_c_leaves_the_ema_usable(where):
    def loss(m, x):
        if where == "loss" and m.net.calls == 4:
            raise KeyboardInterrupt
        return loss_fn(m, x)

    m = model()
    try:
        for tick in fit(m, loss, batches(), 100):
            if where == "loop" and tick.step == 4:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    x = torch.randn(3, 4)
    assert tick.step == 4
    assert torch.isfinite(tick.ema(x, torch.tensor(50)).x0).all()
    assert tick.state()["step"] == 4  # and the run can be saved
    assert len(list(fit(m, loss_fn, batches(), 6, resume=tick.state()))) == 2


def test_resume_is_bit_for_bit(tmp_path):
    """20 steps at once, or 10, a file, a fresh process' objects, and 10 more."""
    def run(resume=None, stop=20):
        m = model()
        torch.manual_seed(1)
        losses = []
        for tick in fit(m, loss_fn, batches(), 20, lr=1e-2, ema=0.9, resume=resume):
            losses.append(tick.loss)
            if tick.step == stop:
                files.save(tmp_path / "state.safetensors", tick.state())
                break
        return losses, m, tick.ema

    straight, m, ema = run()
    first, *_ = run(stop=10)
    torch.rand(1)  # another random state
    second, m2, ema2 = run(resume=files.read(tmp_path / "state.safetensors"))
    assert len(first) == len(second) == 10 and first + second == straight
    for a, b in ((m, m2), (ema, ema2)):
        for (name, v), w in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(v, w), name


def test_resume_from_another_model():
    state = next(fit(model(), loss_fn, batches(), 1)).state()
    with pytest.raises(ValueError, match=r"resume from does not fit.*net\.body\.0\.bias: \(16,\)"):
        next(fit(model(width=8), loss_fn, batches(), 2, resume=state))


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv, which torch for Windows lacks")
def test_two_processes_are_one():
    """The averaged gradient of two CPU processes equals that of one on the joint batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
         "--master_addr=127.0.0.1", f"--master_port={port}", ROOT / "tests" / "two_processes.py"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and "two processes: ok" in done.stdout, done.stderr[-3000:]


# ------------------------------------------------------------------ doors

@pytest.mark.parametrize(("given", "named"), [
    ({"steps": 0}, "steps must be a whole number, at least 1; given 0"),
    ({"steps": -5}, "given -5"), ({"steps": 2.5}, "given 2.5"),
    ({"max_norm": 0}, "would train nothing"),
    ({"max_norm": -1}, "max_norm must be one number, at least 0"),
    ({"ema": 1.5}, "ema, the decay .* in 0 .. 1"),
    ({"ema": -1}, "given -1"), ({"lr": float("nan")}, "lr must be one number"),
    ({"resume": {}}, "lacks 'step'"),
])
def test_numbers_that_make_no_sense_are_named(given, named):
    given = {"steps": 3} | given
    if given.get("resume") == {}:  # an empty state is not "no state"
        given["resume"] = {"rng.cpu": torch.get_rng_state()}
    with pytest.raises(ValueError, match=named):
        next(fit(model(), loss_fn, batches(), **given))


def test_batches_that_end_are_named_and_a_list_will_do():
    three = [torch.randn(8, 4) for _ in range(3)]
    with pytest.raises(ValueError, match="the batches ended after 3 of 5 steps: give an endless iterator"):
        list(fit(model(), loss_fn, three, 5))
    assert len(list(fit(model(), loss_fn, three, 3))) == 3


# ------------------------------------------------------------------ seeds

def test_with_a_seed_every_step_draws_its_own_numbers_whatever_came_before():
    def losses(seed, resume=None, stop=None):
        m, found = model(), []
        for tick in fit(m, loss_fn, batches(), 6, seed=seed, resume=resume):
            found.append(tick.loss)
            torch.rand(tick.step)  # what the notebook draws between two steps
            if tick.step == stop:
                return found, tick.state()
        return found
    straight = losses(0)
    first, state = losses(0, stop=3)
    torch.manual_seed(77)
    assert first + losses(0, resume=state) == straight
    assert losses(1)[0] != straight[0]


class Two:
    """The part of an Accelerator that `fit` asks for its place among several processes."""
    num_processes = 2

    def __init__(self, rank):
        self.process_index = rank

    def reduce(self, x, how):
        return x


def test_processes_draw_different_batches():
    first = [next(fit(model(), loss_fn, batches(), 1, seed=0, accelerator=Two(rank))).loss for rank in (0, 1)]
    assert first[0] != first[1]


def without(start):
    return lambda state: {k: v for k, v in state.items() if not k.startswith(start)}


@pytest.mark.parametrize(("change", "named"), [
    (without("adam.1.exp_avg_sq"), "Adam's moments"), (without("adam.0."), "Adam's moments"),
    (lambda s: s | {"adam.0.exp_avg": s["adam.0.exp_avg"][:2]}, "Adam's moments"),
    (lambda s: s | {"adam.9.step": torch.tensor(1.0)}, "does not fit"),
    (lambda s: s | {"adam.first": torch.tensor(1.0)}, "does not fit"),
    (without("moments"), "lacks 'moments'"), (without("step"), "lacks 'step'"),
    (lambda s: s | {"step": torch.tensor(9)}, "at step 9, .* 1 .. 5"),
    (lambda s: s | {"step": torch.ones(2)}, "does not fit"),
    (without("rng.cpu"), "lacks 'rng.cpu'"), (lambda s: s | {"rng.cpu": s["rng.cpu"][:9]}, "does not fit"),
    (lambda s: s | {"rng.cpu": s["rng.cpu"].float()}, "does not fit"),
    (without("ema."), "its average does not fit this model in 5 tensors")])
def test_a_state_that_lacks_something_is_refused(change, named):
    for tick in fit(model(), loss_fn, batches(), 3):
        state = tick.state()
    with pytest.raises(StateError, match=f"the state to resume from .*{named}"):
        next(fit(model(), loss_fn, batches(), 5, resume=change(state)))


# ------------------------------------------------------------------ the fast path

def test_fast_needs_a_gpu():
    with pytest.raises(ValueError, match="needs one NVIDIA GPU"):
        next(fit(model(), loss_fn, batches(), 3, fast=True))
