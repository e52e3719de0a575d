"""The stop button: a training that it ends leaves a model that can be used, and the run can go on."""
import signal
import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from course_lib.train import fit


def loss_fn(model, x):
    return ((model(x[:, :2]) - x[:, 2:]) ** 2).mean()


def batches():
    while True:
        x = torch.randn(8, 2)
        yield torch.cat([x, x.flip(1)], 1)


@contextmanager
def stop_button():
    """As in a notebook: the signal becomes a KeyboardInterrupt, wherever Python is. Inside, a function that
    presses the button."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield lambda: signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stopped_training_can_be_used_and_goes_on():
    model = nn.Linear(2, 2)
    with stop_button() as press:
        timer = threading.Timer(0.1, press)
        with pytest.raises(KeyboardInterrupt):
            for tick in fit(model, loss_fn, batches(), 10**6):
                if tick.step == 1:
                    timer.start()
    done = tick.step
    assert all(p.isfinite().all() for net in (model, tick.ema) for p in net.parameters())
    more = list(fit(model, loss_fn, batches(), done + 3, resume=tick.state()))
    assert [t.step for t in more] == [done + 1, done + 2, done + 3]


@pytest.mark.parametrize("moment", ["before the step", "after the step"])
def test_nothing_of_a_stopped_step_is_left_for_the_next_training(moment, monkeypatch):
    """Neither a gradient, which would be added to that of the next step."""
    model, real = nn.Linear(2, 2), torch.optim.AdamW.step

    def step(optimizer, *args):
        if moment == "after the step":
            real(optimizer, *args)
        press()
    with stop_button() as press, monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", step)
        next(fit(model, loss_fn, batches(), 5))
    fresh = nn.Linear(2, 2)
    fresh.load_state_dict(model.state_dict())
    for net in (model, fresh):
        torch.manual_seed(0)
        next(fit(net, loss_fn, batches(), 5))
    assert all(map(torch.equal, model.parameters(), fresh.parameters()))


def test_after_a_gradient_that_was_not_finite_the_same_model_can_be_trained():
    """As the error advises: with a lower rate, or with another batch."""
    model = nn.Linear(2, 2)
    with pytest.raises(FloatingPointError, match="gradient"):
        next(fit(model, lambda m, x: (0 * loss_fn(m, x)).sqrt(), batches(), 5))
    assert next(fit(model, loss_fn, batches(), 5, lr=1e-4)).step == 1
