"""Exercises of notebook 02, the noise predictor: its loss, its four costumes, its exact form."""

import torch
from torch import nn

from ..schedules import DDPM, like
from . import normal, problem
from .forward import mix

# ---- ddpm_loss --------------------------------------------------------------------------------

class _Net(nn.Module):
    """A stand-in for a network: any fixed function of x_t and t, with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, x, t):
        return self.weight * torch.tanh(x) * (1 + like(t / 500, x))


def _loss_case(B):
    return (_Net(), normal(B, 3, 4, 4), torch.tensor([500, 20, 1000, 150])[:B],
            normal(B, 3, 4, 4, seed=1), DDPM(1000).abar.float())


_noisy = mix(torch.sqrt, lambda ab: (1 - ab).sqrt())


def _loss(target=lambda x0, x_t, eps, s: eps, reduce=lambda error: (error**2).mean(),
          noisy=_noisy, told=lambda t, abar: t):
    """The loss with another target(x0, x_t, eps, s), way from the error to a number, x_t, or time."""
    def loss(net, x0, t, eps, abar):
        x_t = noisy(x0, t, eps, abar)
        return reduce(net(x_t, told(t, abar)) - target(x0, x_t, eps, like((1 - abar[t]).sqrt(), x0)))
    return loss


def _columns(net, x0, t, eps, abar):
    x_t = abar[t].sqrt() * x0 + (1 - abar[t]).sqrt() * eps
    return ((net(x_t, t) - eps) ** 2).mean()


def _repeats(f):
    return torch.equal(f(*_loss_case(4)), f(*_loss_case(4)))


def _trains(f):
    net, *rest = _loss_case(4)
    loss = f(net, *rest)
    return loss.requires_grad and torch.autograd.grad(loss.sum(), net.weight)[0] != 0


@problem(
    works="this is L_simple, the loss of Algorithm 1: how far the guess is from the noise.",
    hints=("Three lines: make x_t, ask the network for the noise in it, compare with the true eps.",
           "The network gets x_t and t, never x0. The error is squared and averaged over everything.",
           "x_t = a * x0 + s * eps with a, s of shape (B, 1, 1, 1); "
           "return ((net(..., t) - ...) ** 2).mean()"),
    cases=lambda: [_loss_case(4), _loss_case(2)],  # as many pictures as columns, and fewer
    mistakes=(
        (lambda net, x0, t, eps, abar: ((net(x0, t) - eps) ** 2).mean(),
         "the network sees the clean picture x0. There eps is unguessable, and the loss stays "
         "near 1. Give it x_t."),
        (_loss(lambda x0, x_t, eps, s: x_t - x0),
         "the target is x_t - x0, whose scale varies with t. Compare with eps, which always has "
         "variance 1."),
        (_loss(lambda x0, x_t, eps, s: s * eps),
         "the target is s * eps: low noise vanishes from the loss. Compare with eps itself."),
        (_loss(lambda x0, x_t, eps, s: x0),
         "the target is the picture x0. Here the network is a noise predictor: compare with eps."),
        (_loss(reduce=lambda e: (e**2).sum()),
         _loss(reduce=lambda e: (e**2).sum(dim=(1, 2, 3)).mean()),
         _loss(reduce=lambda e: (e**2).mean(dim=(1, 2, 3)).sum()),
         "with a sum the gradient scales with the number of pixels or pictures. Take the mean."),
        (_loss(reduce=lambda e: (e**2).mean(dim=(1, 2, 3))),
         _loss(reduce=lambda e: e**2),
         "a loss is one number: take the mean over the batch, too."),
        (_loss(reduce=lambda e: e.abs().mean()),
         "that is the absolute error, whose best answer is a median. L_simple squares."),
        (_loss(reduce=lambda e: (e**2).mean().sqrt()),
         "there is a root over the mean. L_simple is the mean squared error itself."),
        (_loss(reduce=lambda e: e.mean() ** 2),
         _loss(reduce=lambda e: e.mean()),
         "errors of opposite sign cancel: square first, then take the mean."),
        *((_loss(noisy=mix(a, s)), "x_t is off: " + text) for a, s, text in (
            (lambda ab: ab, lambda ab: 1 - ab, "both square roots are missing, on abar_t and on 1 - abar_t."),
            (torch.sqrt, lambda ab: 1 - ab, "a square root is missing on 1 - abar_t."),
            (lambda ab: ab, lambda ab: (1 - ab).sqrt(), "a square root is missing on abar_t."),
            (torch.sqrt, lambda ab: 1 - ab.sqrt(), "a^2 + s^2 = 1, not a + s = 1. So s = sqrt(1 - abar_t)."),
            (torch.ones_like, lambda ab: (1 - ab).sqrt(),
             "the picture is not shrunk, its factor is sqrt(abar_t)."),
            (lambda ab: (1 - ab).sqrt(), torch.sqrt, "the coefficients of x0 and eps are swapped."))),
        (*(_loss(noisy=mix(torch.sqrt, lambda ab: (1 - ab).sqrt(), slip))
           for slip in ((1, 1), (1, 0), (0, 1))),
         "x_t is made for t - 1: abar[0] = 1 is the clean picture, so step t is abar[t], not abar[t - 1]."),
        (_loss(told=lambda t, abar: abar[t]), _loss(told=lambda t, abar: abar[t].sqrt()),
         _loss(told=lambda t, abar: t / (len(abar) - 1)), _loss(told=lambda t, abar: t - 1),
         "the network gets another number than t. It was made for the time itself: net(x_t, t)."),
        (_columns,
         "abar[t] has the shape (B,) and meets the last axis: a batch of 16 at 16 px broadcasts "
         "silently along the columns. Give it the shape (B, 1, 1, 1)."),
    ),
    limits=(
        (_repeats, "the same inputs give another loss: use the eps and t that are given."),
        (_trains, "no gradient reaches the network. Leave out .item(), .detach() and no_grad()."),
    ),
)
def ddpm_loss(net, x0, t, eps, abar):
    """Algorithm 1: the mean squared error of the predicted noise.

    net: net(x_t, t) returns the predicted noise, (B, C, H, W). x0, eps: (B, C, H, W). t: (B,) int64
    in 1 .. T. abar: (T+1,), abar[0] = 1.
    Returns the loss, one number that the network can be trained with.
    """
    x_t = like(abar[t].sqrt(), x0) * x0 + like((1 - abar[t]).sqrt(), x0) * eps
    return ((net(x_t, t) - eps) ** 2).mean()


# ---- convert ----------------------------------------------------------------------------------

def _convert_cases():
    a = torch.tensor([0.9, 0.5, 0.2]).reshape(3, 1, 1, 1)
    return [(normal(5, 2), normal(5, 2, seed=1), 0.8, 0.6),
            (normal(3, 1, 2, 2), normal(3, 1, 2, 2, seed=1), a, (1 - a**2).sqrt())]


@problem(
    works="one prediction in four costumes: eps, x0, v and the score.",
    hints=("Solve x_t = a x0 + s eps for x0. Then put x0 into v = a eps - s x0.",
           "The score is -eps / s: it points from the noisy picture to where the data are dense.",
           "x0 = (xt - s * eps) / a, v = a * eps - ..., score = -... / s"),
    cases=_convert_cases,
    parts=("x0", "v", "score"),
    mistakes=(
        (lambda xt, eps, a, s: ((xt - eps) / a, ..., ...),
         "x0 is off: the noise enters scaled by s, so subtract s * eps."),
        (lambda xt, eps, a, s: (xt - s * eps, ..., ...),
         "x0 is off: the picture enters scaled by a, so divide by a at the end."),
        (lambda xt, eps, a, s: (..., s * (xt - s * eps) / a - a * eps, ...),
         lambda xt, eps, a, s: (..., s * (xt - s * eps) / a + a * eps, ...),
         "the sign of v is wrong: v = a eps - s x0."),
        (lambda xt, eps, a, s: (..., a * eps - s * xt, ...),
         "v is off: it takes the clean x0, not x_t. v = a eps - s x0."),
        (lambda xt, eps, a, s: (..., s * eps - a * (xt - s * eps) / a, ...),
         "a and s are exchanged in v: it is a eps - s x0."),
        (lambda xt, eps, a, s: (..., eps - (xt - s * eps) / a, ...),
         lambda xt, eps, a, s: (..., (xt - s * eps) / a - eps, ...),
         "eps - x0 is the velocity of flow matching. Here v = a eps - s x0."),
        (lambda xt, eps, a, s: (..., ..., eps / s),
         lambda xt, eps, a, s: (..., ..., eps),
         "the score has the wrong sign: it points away from the data."),
        (lambda xt, eps, a, s: (..., ..., -eps / s**2),
         "the score is off: -(x_t - a x0) / s^2 has s^2, but eps has unit variance, so divide it "
         "by s."),
        (lambda xt, eps, a, s: (..., ..., -eps),
         "the score is off: divide by s. It grows where there is little noise."),
        (lambda xt, eps, a, s: (..., ..., -(xt - (xt - s * eps) / a) / s**2),
         "the score is off: the centre of the cloud is a x0, not x0. It is -(x_t - a x0) / s^2 = -eps / s."),
    ),
)
def convert(xt, eps, a, s):
    """Turn a noise prediction into the other three ways to say the same.

    xt, eps: (B, ...). a, s: the coefficients of x_t = a x0 + s eps, a^2 + s^2 = 1, both above 0;
    numbers, or tensors that broadcast with xt.
    Returns (x0, v, score), each like xt, with v = a eps - s x0, and the score grad ln p(x_t | x0).
    """
    x0 = (xt - s * eps) / a
    return x0, a * eps - s * x0, -eps / s


# ---- exact_denoiser ---------------------------------------------------------------------------

def _denoiser_cases():
    data, queries = normal(5, 2), normal(3, 2, seed=1)
    wide = normal(6, 300), normal(4, 300, seed=1)  # as many numbers as a small picture has
    return [(queries, data, 0.6, 0.8), (queries, data, 0.9, (1 - 0.81) ** 0.5),
            (wide[1], wide[0], (1 - 0.05**2) ** 0.5, 0.05)]


def _weighted(logits, dim=1):
    """The weighted mean of the data with softmax(logits(squared distance, s)) as the weights."""
    def denoise(xt, data, a, s):
        d2 = ((xt[:, None] - a * data) ** 2).sum(-1)
        return torch.softmax(logits(d2, s), dim) @ data
    return denoise


def _forgets_a(xt, data, a, s):
    return _weighted(lambda d2, _: -d2 / (2 * s**2))(xt, data, 1.0, s)


def _naive(xt, data, a, s):
    w = torch.exp(-((xt[:, None] - a * data) ** 2).sum(-1) / (2 * s**2))
    return w / w.sum(dim=1, keepdim=True) @ data


@problem(
    works="the best possible answer for this data: a weighted mean of the training examples.",
    hints=("Which x_i could have made x_t? Each with the probability that the noise was x_t - a x_i.",
           "Weights: softmax over the data of -|x_t - a x_i|^2 / (2 s^2), one row per query.",
           "d2 = ((xt[:, None] - a * data) ** 2).sum(-1); torch.softmax(..., dim=1) @ data"),
    cases=_denoiser_cases,
    mistakes=(
        (_forgets_a,
         "compare x_t with a * x_i, not with x_i: the picture was shrunk before noise was added."),
        (_weighted(lambda d2, s: -d2 / (2 * s**2), dim=0),
         "the softmax runs over the batch: the weights per query must sum to 1, so use dim=1."),
        (_weighted(lambda d2, s: -d2 / (2 * s)),
         _weighted(lambda d2, s: -d2 / s),
         "the weights are too soft: divide by 2 s^2, the variance, not by s."),
        (_weighted(lambda d2, s: -d2 / s**2),
         "the factor 2 is missing: a Gaussian is exp(-d^2 / (2 s^2))."),
        (_weighted(lambda d2, s: d2 / (2 * s**2)),
         "the sign is wrong: the farthest example gets the largest weight."),
        (_weighted(lambda d2, s: -d2.sqrt() / (2 * s**2)),
         "the distance in the exponent must be squared."),
        (_weighted(lambda d2, s: -d2),
         "the noise level is missing: divide the squared distance by 2 s^2."),
        (lambda xt, data, a, s: _weighted(lambda d2, s: -d2 / (2 * s**2 * xt.shape[1]))(xt, data, a, s),
         "the squared distance is the sum over all d numbers, not their mean."),
        (lambda xt, data, a, s: (-((xt[:, None] - a * data) ** 2).sum(-1) / (2 * s**2)).exp() @ data,
         "the weights do not sum to 1: divide by their sum, as softmax does."),
        (_weighted(lambda d2, s: -1e9 * d2),
         "the nearest example alone is only the s -> 0 limit; with more noise, take the mean."),
        (lambda xt, data, a, s: a * _weighted(lambda d2, _: -d2 / (2 * s**2))(xt, data, a, s),
         "that is the mean of a * x_i. Average the clean x_i."),
        (_naive,
         "NaN at low noise: every exp underflows to 0, and 0 / 0 follows. torch.softmax subtracts "
         "the maximum first."),
    ),
)
def exact_denoiser(xt, data, a, s):
    """The exact E[x0 | x_t] if the data are just these N examples, each equally likely.

    xt: (B, d) noisy points or flattened pictures. data: (N, d). a, s: numbers above 0,
    x_t = a x0 + s eps. It must also work at low noise, s = 0.05 with d = 300.
    Returns (B, d): sum_i w_i x_i, with w the softmax over i of -|x_t - a x_i|^2 / (2 s^2).
    """
    d2 = ((xt[:, None] - a * data) ** 2).sum(dim=-1)  # (B, N)
    return torch.softmax(-d2 / (2 * s**2), dim=1) @ data
