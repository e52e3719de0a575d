"""Exercises of notebook 03, a sampler with a memory: DPM-Solver++(2M)."""
import torch

from . import problem
from .sampling import three

# ---- dpmpp_2m_step ----------------------------------------------------------------------------

def _2m_cases():
    """An uneven step, a first step, the last step, where s_next = 0 and lam_next is infinite."""
    def case(lam_prev, lam, lam_next):
        xt, x0, x0_prev = three()
        before = (None, None) if lam_prev is None else (x0_prev, torch.tensor(lam_prev))
        lam, lam_next = torch.tensor(lam), torch.tensor(lam_next)
        s, s_next = (torch.sigmoid(-2 * v).sqrt() for v in (lam, lam_next))
        return xt, x0, *before, lam, lam_next, torch.sigmoid(2 * lam_next).sqrt(), s, s_next
    return [case(-1.0, -0.2, 1.1), case(None, -1.0, -0.2), case(0.4, 1.1, torch.inf)]


def _extrapolated(x0, x0_prev, h, h_prev):
    return x0 + (x0 - x0_prev) * h / (2 * h_prev)


def _move(xt, D, h, a_next, s, s_next):
    return s_next / s * xt - a_next * torch.expm1(-h) * D


def _2m(direction=_extrapolated, move=_move, first_too=False):
    """A 2M step with another D = direction(x0, x0_prev, h, h_prev), or another final formula."""
    def step(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
        h, D = lam_next - lam, x0
        if first_too or (x0_prev is not None and s_next > 0):
            D = direction(x0, x0_prev, h, lam - lam_prev)
        return move(xt, D, h, a_next, s, s_next)
    return step


@problem(
    works="second order from memory: the last x0_hat gives the slope, at no further network call.",
    hints=("First write DDIM: x_next = (s_next / s) x_t - a_next (e^-h - 1) x0, h = lam_next - lam.",
           "Now replace x0 by D = (1 + 1/(2k)) x0 - x0_prev / (2k), k = (lam - lam_prev) / h; but "
           "D = x0 if x0_prev is None or s_next == 0.",
           "D = x0 + (x0 - x0_prev) * h / (2 * ...); "
           "return s_next / s * xt - a_next * torch.expm1(...) * D"),
    cases=_2m_cases,
    mistakes=(
        (_2m(lambda x0, prev, h, h_prev: x0 + (x0 - prev) * h_prev / (2 * h)),
         "k is inverted: this passes only on equal steps. k = (lam - lam_prev) / h."),
        (_2m(lambda x0, prev, h, h_prev: x0 + (x0 - prev) / 2),
         "you take k = 1, which is right only for equal steps. k = (lam - lam_prev) / h."),
        (_2m(move=lambda xt, D, h, a, s, sn: sn / s * xt - a * torch.expm1(h) * D),
         _2m(move=lambda xt, D, h, a, s, sn: sn / s * xt + a * torch.expm1(h) * D),
         _2m(move=lambda xt, D, h, a, s, sn: sn / s * xt + a * torch.expm1(-h) * D),
         "a sign is wrong: the weight of D is -a_next (e^-h - 1), a number above 0."),
        (_2m(move=lambda xt, D, h, a, s, sn: s / sn * xt - a * torch.expm1(-h) * D),
         "x_t is scaled the wrong way round: its noise shrinks from s to s_next."),
        (_2m(move=lambda xt, D, h, a, s, sn: a / (1 - s**2).sqrt() * xt - sn * torch.expm1(h) * D),
         "that formula extrapolates eps: it is another solver, DPM-Solver. The ++ one uses x0."),
        (_2m(move=lambda xt, D, h, a, s, sn: a / s * xt - sn * torch.expm1(-h) * D),
         _2m(move=lambda xt, D, h, a, s, sn: a / s * xt - a * torch.expm1(-h) * D),
         _2m(move=lambda xt, D, h, a, s, sn: sn / s * xt - sn * torch.expm1(-h) * D),
         "the letters are mixed up: here a is the factor of the picture and s that of the noise, whatever "
         "other code calls them. x_t is scaled by s_next / s, and D by a_next."),
        (_2m(move=lambda xt, D, h, a, s, sn: xt - a * torch.expm1(-h) * D),
         "x_t itself must shrink, too: its factor is s_next / s."),
        (_2m(move=lambda xt, D, h, a, s, sn: sn / s * xt - torch.expm1(-h) * D),
         "a_next is missing before D."),
        (_2m(move=lambda xt, D, h, a, s, sn: sn / s * xt - a * torch.exp(-h) * D),
         "the - 1 is missing: the weight of D is -a_next (e^-h - 1), which is torch.expm1."),
        (_2m(lambda x0, prev, h, h_prev: x0 - (x0 - prev) * h / (2 * h_prev)),
         _2m(lambda x0, prev, h, h_prev: (1 + h / (2 * h_prev)) * x0 + prev * h / (2 * h_prev)),
         "D must go on in the direction from x0_prev to x0: (1 + 1/(2k)) x0 - x0_prev / (2k)."),
        (_2m(lambda x0, prev, h, h_prev: x0 + (x0 - prev) * h / h_prev),
         "the 2 in 1/(2k) is missing: the slope is used half a step ahead, in the middle."),
        (_2m(lambda x0, prev, h, h_prev: x0), "x0_prev is not used: that is DDIM, first order."),
        (lambda *args: _2m(first_too=args[2] is None)(*args),
         "the first step has no memory: x0_prev is None. Use D = x0 there."),
    ),
    limits=(
        (lambda f: f(*_2m_cases()[2]).isfinite().all(),
         "NaN at the last step: there s_next = 0 and h is infinite. Use D = x0 if s_next == 0."),
    ),
)
def dpmpp_2m_step(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    """One step of DPM-Solver++(2M), from x_t to x_next.

    xt, x0, x0_prev: (B, C, H, W): the noisy picture, the picture predicted now, and the one
    predicted a step before. lam = ln(a / s) of the last, this and the next time; a_next, s, s_next:
    the coefficients; all of them tensors of one number.
    In the first step x0_prev and lam_prev are None; in the last step s_next = 0, lam_next = inf.
    Both of them use D = x0, else D = (1 + 1/(2k)) x0 - x0_prev / (2k), k = (lam - lam_prev) / h.
    Returns x_next = (s_next / s) x_t - a_next (e^-h - 1) D, h = lam_next - lam, like xt.
    """
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        k = (lam - lam_prev) / h
        D = (1 + 1 / (2 * k)) * x0 - x0_prev / (2 * k)
    return s_next / s * xt - a_next * torch.expm1(-h) * D
