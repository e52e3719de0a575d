"""Exercises of notebook 02 and its lab 02a: the noise of one step as a target, and the terms of the bound."""

import torch

from ..schedules import DDPM, Cosine, like
from . import normal, problem

# ---- last_noise -------------------------------------------------------------------------------

def _noise_cases():
    linear, cosine = DDPM(1000), Cosine(1000)
    return [(normal(3, 1, 2, 2), torch.tensor([20, 60, 700]), linear.beta, linear.abar),
            (normal(2, 2, 3, 2, seed=1), torch.tensor([500, 990]), cosine.beta, cosine.abar)]


def _last(correlation, share=lambda b, ab: ...):
    """The exercise with another factor of eps_hat, and another share, both of (beta_t, abar_t)."""
    def last_noise(eps_hat, t, beta, abar):
        return like(correlation(beta[t], abar[t]), eps_hat) * eps_hat, share(beta[t], abar[t])
    return last_noise


def _right(b, ab):
    return (b / (1 - ab)).sqrt()


def _columns(eps_hat, t, beta, abar):
    return _right(beta[t], abar[t]) * eps_hat, ...


@problem(
    works="the last step's noise has the same best answer as the whole noise, up to a known factor; but that "
          "answer explains only the share beta_t / s_t^2 of it.",
    hints=("Unroll x_t by one step: the noise in it is s_t eps = sqrt(alpha_t) s_(t-1) (earlier noise) + "
           "sqrt(beta_t) xi_t. Which share of the variance of s_t eps does xi_t bring?",
           "For two standard normal numbers with correlation c, the best prediction of one is c times the "
           "other, and the share of the variance that is explained is c^2.",
           "c = (beta[t] / (1 - abar[t])).sqrt(); return c[:, None, None, None] * eps_hat, c**2"),
    cases=_noise_cases,
    parts=("xi_hat", "share"),
    mistakes=(
        (_last(lambda b, ab: b.sqrt()),
         "xi_hat is too small: sqrt(beta_t) is the covariance of xi_t with s_t eps. Divide by s_t."),
        (_last(lambda b, ab: b / (1 - ab).sqrt()),
         "xi_hat is off: beta_t / s_t is the factor of eps in the mean of Algorithm 2. The correlation has "
         "sqrt(beta_t)."),
        (_last(lambda b, ab: b / (1 - ab)),
         "xi_hat is scaled by c^2, the share that is explained. The best prediction is c eps_hat."),
        (_last(lambda b, ab: ((1 - ab) / b).sqrt()),
         "xi_hat is upside down: it is larger than eps_hat. The correlation is sqrt(beta_t) / s_t."),
        (_last(lambda b, ab: (b / ab).sqrt()),
         "divide by s_t = sqrt(1 - abar_t), the noise in x_t, not by a_t = sqrt(abar_t), the signal."),
        (_last(lambda b, ab: torch.ones_like(b)),
         "xi_hat is eps_hat itself. The last step brings only a part of the whole noise."),
        (lambda eps_hat, t, beta, abar: (..., _right(beta[t], abar[t])),
         "share is the correlation c. The share of the variance that is explained is c^2."),
        (lambda eps_hat, t, beta, abar: (..., 1 - beta[t] / (1 - abar[t])),
         "share is what stays unexplained. Asked is the share that is explained, c^2."),
        (lambda eps_hat, t, beta, abar: (..., beta[t]),
         "share is beta_t, what xi_t adds to the variance of x_t. Divide by the variance of all its noise."),
        (lambda eps_hat, t, beta, abar: (
            like((beta[t - 1] / (1 - abar[t])).sqrt(), eps_hat) * eps_hat, ...),
         "step t is beta[t]: index 0 is the clean picture, in both tables."),
        (_columns,
         "the factor has the shape (B,) and meets the last axis of eps_hat. Give it the shape (B, 1, 1, 1)."),
    ),
)
def last_noise(eps_hat, t, beta, abar):
    """The best prediction of xi_t, the fresh noise of step t alone, and how good it can be.

    x_t = sqrt(alpha_t) x_(t-1) + sqrt(beta_t) xi_t, and also x_t = a_t x_0 + s_t eps.
    eps_hat: (B, C, H, W), the best prediction of eps. t: (B,) int64 in 1 .. T. beta, abar: (T+1,); index 0
    is the clean picture, beta[0] = 0, abar[0] = 1.
    Returns (xi_hat, share): (B, C, H, W), and (B,), the share of the variance of xi_t, 0 .. 1, that one
    would explain if eps were known exactly.
    """
    c = (beta[t] / (1 - abar[t])).sqrt()  # the correlation of xi_t and eps
    return like(c, eps_hat) * eps_hat, c**2


# ---- bound_terms ------------------------------------------------------------------------------

def _bound_cases():
    return [(0.01 + normal(7).double().square(), DDPM(6, torch.linspace(0.1, 0.5, 6)).abar),
            (0.01 + normal(31, seed=1).double().square(), Cosine(30).abar)]


def _snr(abar):
    return abar[1:] / (1 - abar[1:])


def _terms(weight, error=lambda e: e[2:]):
    """The exercise with another weight of abar, (T - 1,), or another error."""
    return lambda e, abar: weight(abar) * error(e)


def _drop(abar):
    return (_snr(abar)[:-1] - _snr(abar)[1:]) / 2


def _noise_weight(abar):
    alpha = abar[2:] / abar[1:-1]
    return (1 - alpha) / (2 * alpha * (1 - abar[1:-1]))


def _with_first(e, abar):
    snr = abar / (1 - abar)
    return (snr[:-1] - snr[1:]) / 2 * e[1:]


@problem(
    works="these are the terms of the bound, in nats per number: weight times error, step by step.",
    hints=("SNR_t = abar_t / (1 - abar_t), for t = 1 .. T. It falls from step to step.",
           "The weight of step t is half of what the SNR loses in it, (SNR_(t-1) - SNR_t) / 2; t = 2, 3, ...",
           "snr = abar[1:] / (1 - abar[1:]); return 0.5 * (snr[:-1] - snr[1:]) * error[...]"),
    cases=_bound_cases,
    mistakes=(
        (_terms(lambda ab: 2 * _drop(ab)),
         "the factor 1/2 is missing: a KL of two Gaussians is |difference of the means|^2 / (2 variance)."),
        (_terms(lambda ab: -_drop(ab)),
         "the terms are negative, and a KL never is: SNR_(t-1) is the larger one."),
        (_terms(_drop, lambda e: e[1:-1]),
         "the error is off by one: term t belongs to the answer at x_t, error[t], not error[t - 1]."),
        (_terms(lambda ab: (_snr(ab)[:-1].sqrt() - _snr(ab)[1:].sqrt()) / 2),
         "SNR_t is the squared ratio, a_t^2 / s_t^2 = abar_t / (1 - abar_t)."),
        (_terms(lambda ab: (1 / _snr(ab)[1:] - 1 / _snr(ab)[:-1]) / 2),
         "that is 1 / SNR, noise over signal: SNR_t = abar_t / (1 - abar_t)."),
        (_terms(lambda ab: (ab[1:-1] - ab[2:]) / 2),
         "the difference of abar is missing the noise: SNR_t = abar_t / (1 - abar_t)."),
        (_terms(lambda ab: _snr(ab)[1:] / 2), _terms(lambda ab: _snr(ab)[1:]),
         "SNR_t times the error of the picture is the error of the noise. The bound weighs by the *fall* of "
         "the SNR in step t."),
        (_terms(_noise_weight),
         "that is the weight of the error of the noise. `error` is that of the picture, with the weight "
         "(SNR_(t-1) - SNR_t) / 2."),
        (_with_first,
         "there are T numbers, the first infinite: t = 1 has no such term (SNR_0 is infinite). Begin at 2."),
        (lambda e, abar: (_drop(abar) * e[2:]).sum(),
         "asked are the terms, one for each t = 2 .. T, not their sum."),
        (lambda e, abar: (_drop(abar) * e[2:]).mean(),
         "asked are the terms, one for each t = 2 .. T, not their mean."),
        (_terms(lambda ab: _drop(ab) / torch.log(torch.tensor(2.0))),
         "these are bits. Leave the result in nats: do not divide by ln 2."),
    ),
)
def bound_terms(error, abar):
    """The terms L_(t-1) of the variational bound, t = 2 .. T, in nats for each number of a picture.

    error: (T+1,), the mean squared error of the predicted picture at t = 0 .. T, per number; error[0] and
    error[1] are not used. abar: (T+1,), abar[0] = 1.
    Returns (T-1,): half the fall of the SNR in step t, times error[t].
    """
    snr = abar[1:] / (1 - abar[1:])  # t = 1 .. T
    return 0.5 * (snr[:-1] - snr[1:]) * error[2:]
