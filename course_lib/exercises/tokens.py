"""Exercises of notebook 07, tokens: one sequence of words and picture, a draw, and the nearest entry."""
import functools
import math

import torch
from torch.nn import functional as F

from ..autoregressive import chances
from . import normal, problem

# ---- joint_sequence ---------------------------------------------------------------------------

_K = 16  # tokens of pictures


def _pairs():
    text, picture = torch.tensor([[3, 5, 0], [1, 11, 4]]), torch.tensor([[5, 0, 15, 7], [2, 2, 9, 3]])
    return [(text, picture, 12), (text[:, :2], picture[:, 1:].clamp(max=8), 12), (text, picture, 20)]


def _sequence(join=lambda text, picture, V: (text, picture + V), inputs=lambda s: s[:, :-1],
              targets=lambda s: s[:, 1:]):
    def f(text, picture, V):
        s = torch.cat(join(text, picture, V), dim=1)
        return inputs(s), targets(s)
    return f


def _offset(number):
    return _sequence(lambda text, picture, V: (text, picture + number(text, V)))


def _consistent(f):
    """Other ids are right as well, if each means one word, or one token of a picture, in every batch."""
    shifts = {}
    for text, picture, V in _pairs():
        inputs, targets = f(text, picture, V)
        s = torch.cat([inputs[:, :1], targets], dim=1)
        if not torch.equal(inputs, s[:, :-1]):
            return False
        words, tokens = s.split([text.shape[1], picture.shape[1]], dim=1)
        shifts.setdefault(V, set()).update(((words - text).unique(), (tokens - picture).unique()))
    for V, both in shifts.items():
        pairs = {(int(a), int(b)) for a, b in [both] if a.numel() == b.numel() == 1}
        for a, b in pairs:
            if min(a, b) < 0 or not (b >= a + V or a >= b + _K):
                return False
    return True
