"""Numbers of the training loop that a notebook does not name."""
import pytest
import torch
from torch import nn

from course_lib import train
from course_lib.train import fit, learning_rate


def ones():
    while True:
        yield torch.ones(1, 1)


def test_a_long_run_warms_up_for_200_steps():
    assert learning_rate(100, 100_000, 1.0) == 0.5 and learning_rate(200, 100_000, 1.0) == 1.0
    assert 0.99 < learning_rate(400, 100_000, 1.0) < 1.0


def test_a_long_gradient_is_shortened_to_1(monkeypatch):
    model, found = nn.Linear(1, 1, bias=False), []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: found.append(model.weight.grad.item()))
    next(fit(model, lambda m, x: 50 * m(x).sum(), ones(), 1))
    assert found == [pytest.approx(1.0, rel=1e-5)]


def test_adam_forgets_squared_gradients_after_a_hundred_steps():
    """Not after a thousand, PyTorch's default: the runs of a notebook are no longer than that."""
    assert train._adamw(nn.Linear(1, 1), 1e-3, False).defaults["betas"] == (0.9, 0.99)


def test_a_network_that_was_used_is_trained_as_one_in_training():
    """With its dropout on, though it was in eval mode."""
    model, seen = nn.Linear(1, 1).eval(), []
    next(fit(model, lambda m, x: seen.append(m.training) or m(x).sum(), ones(), 1))
    assert seen == [True]
