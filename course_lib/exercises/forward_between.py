"""Exercises of notebook 01 and its lab: a jump from the middle of a chain; a schedule for larger pictures."""
import torch

from ..schedules import DDPM, Cosine, like
from . import normal, problem
from .forward import mix

# ---- q_between --------------------------------------------------------------------------------

def _middle(B):
    """B noisy pictures, each with its own r < t (also r = 0, and r = t - 1), and the linear schedule."""
    r, t = torch.tensor([100, 0, 499, 250])[:B], torch.tensor([350, 200, 500, 600])[:B]
    return normal(B, 3, 4, 4), r, t, normal(B, 3, 4, 4, seed=1), DDPM(1000).abar.float()


def _share(abar, r, t):
    return abar[t] / abar[r]


def _jump(a=lambda r, t: (t / r).sqrt(), s=lambda r, t: (1 - t / r).sqrt()):
    """The jump with other coefficients, as functions of abar_r and abar_t."""
    def x_t(x_r, r, t, eps, abar):
        return like(a(abar[r], abar[t]), x_r) * x_r + like(s(abar[r], abar[t]), x_r) * eps
    return x_t


def _slip(share):
    """The jump with another share = share(abar, r, t) of the variance that is kept."""
    def x_t(x_r, r, t, eps, abar):
        kept = share(abar, r, t)
        return like(kept.sqrt(), x_r) * x_r + like((1 - kept).sqrt(), x_r) * eps
    return x_t


def _axes(n):
    """The jump with coefficients of n axes."""
    def x_t(x_r, r, t, eps, abar):
        kept = _share(abar, r, t).reshape(-1, *[1] * (n - 1))
        return kept.sqrt() * x_r + (1 - kept).sqrt() * eps
    return x_t


def _repeats(f):
    return torch.allclose(f(*_middle(4)), f(*_middle(4)), equal_nan=True)


@problem(
    works="a later part of a chain is a chain, too: from any x_r to any later x_t in one jump.",
    hints=("Which share of the variance of x_r do the steps r + 1, ..., t keep? alpha_(r+1) ... alpha_t.",
           "That product is abar_t / abar_r: in the ratio the steps 1 .. r cancel. Then use it as q_sample "
           "uses abar_t.",
           "kept = (abar[t] / abar[r]).reshape(-1, 1, 1, 1), then kept.sqrt() * x_r + ... * eps."),
    cases=lambda: [_middle(4), _middle(2), _middle(3)],  # as many as columns, fewer, as many as channels
    mistakes=(
        (lambda x_r, r, t, eps, abar: mix(torch.sqrt, lambda ab: (1 - ab).sqrt())(x_r, t, eps, abar),
         "that jumps t steps, from x_r as if it were the clean picture. Only the steps r + 1, ..., t are "
         "still to be made, and they keep the share abar_t / abar_r."),
        (_jump(s=lambda r, t: (1 - t).sqrt()),
         "the noise is too large: 1 - abar_t is the variance of all the noise in x_t, and x_r holds a part "
         "of it."),
        (_jump(s=lambda r, t: (r - t).sqrt()), _jump(s=lambda r, t: (1 - t).sqrt() - (1 - r).sqrt()),
         "the noise is too small: what is new is not the difference between the noise of x_t and that of "
         "x_r, since the steps shrink the old noise. They keep the share k = abar_t / abar_r, and 1 - k is "
         "new."),
        (_jump(a=lambda r, t: t / r, s=lambda r, t: 1 - t / r),
         "the square roots are missing: abar_t / abar_r is a share of the variance."),
        (_jump(a=lambda r, t: t / r),
         "a square root is missing on abar_t / abar_r, the factor of x_r."),
        (_jump(s=lambda r, t: 1 - t / r),
         "a square root is missing on 1 - abar_t / abar_r, the factor of the noise."),
        (_jump(s=lambda r, t: 1 - (t / r).sqrt()),
         "a + s = 1 is not what keeps the variance: a^2 + s^2 = 1. So s = sqrt(1 - abar_t / abar_r)."),
        (_jump(a=lambda r, t: t.sqrt()),
         "x_r is shrunk too much: sqrt(abar_t) is what t steps do, and r of them are made already."),
        (_jump(a=lambda r, t: torch.ones_like(t)), _jump(a=lambda r, t: r.sqrt()),
         "x_r is not shrunk by the steps that are still to be made: its factor is sqrt(abar_t / abar_r)."),
        (_jump(s=lambda r, t: -(1 - t / r).sqrt()), "the noise is added, not subtracted."),
        (_jump(a=lambda r, t: (r / t).sqrt(), s=lambda r, t: (1 - r / t).sqrt()),
         _jump(a=lambda r, t: (r / t).sqrt(), s=lambda r, t: (r / t - 1).sqrt()),
         _jump(a=lambda r, t: (r / t).sqrt()),
         "the ratio is upside down: abar falls, so abar_t / abar_r is below 1; you use abar_r / abar_t."),
        (_slip(lambda abar, r, t: abar[t - r]),
         "t - r steps, but the wrong ones: abar[t - r] is the product of the first t - r steps, and later "
         "steps are larger. Needed are the steps r + 1, ..., t."),
        (*(_slip(lambda abar, r, t, i=i, j=j: abar[t - j] / abar[r - i])
           for i, j in ((1, 0), (-1, 0), (0, 1), (1, 1))),
         "one step too many or too few: abar[t] / abar[r] is the product of the steps r + 1, ..., t."),
        (_slip(lambda abar, r, t: abar[t] / abar[t - 1]),
         "that is the last step alone. The steps r + 1, ..., t keep the product of their shares, "
         "abar_t / abar_r."),
        (_axes(1),
         "the coefficients have the shape (B,) and meet the last axis, the columns. Give them the shape "
         "(B, 1, 1, 1)."),
        (_axes(3), "with the shape (B, 1, 1) the coefficients meet the channels. They need (B, 1, 1, 1)."),
    ),
    limits=((_repeats, "you draw your own noise. Use the eps that is given."),),
)
def q_between(x_r, r, t, eps, abar):
    """From the middle of the chain, x_r, jump to a later x_t: given x_r, it is normal.

    x_r, eps: (B, C, H, W), noisy pictures and standard normal noise. r, t: (B,) int64, 0 <= r < t <= T, two
    for each picture. abar: (T+1,), abar[0] = 1.
    Returns x_t, (B, C, H, W); for r = 0 it is q_sample, for r = t - 1 one step.
    """
    kept = abar[t] / abar[r]  # alpha_(r+1) ... alpha_t
    return like(kept.sqrt(), x_r) * x_r + like((1 - kept).sqrt(), x_r) * eps


# ---- shifted_abar -----------------------------------------------------------------------------

def _shift(abar, ratio):
    """abar of a schedule whose SNR is multiplied by ratio."""
    return abar * ratio / (abar * ratio + 1 - abar)


@problem(
    works="the picture of k times the size now loses its content at the same steps as the small one.",
    hints=("Averaging k x k pixels multiplies the SNR by k^2. So which SNR must the large picture have?",
           "SNR' = SNR / k^2 at each step, and SNR = abar / (1 - abar). Solve for abar'.",
           "snr = abar / (1 - abar) / k**2, then abar' = snr / (1 + snr); write it so that 1 stays 1."),
    cases=lambda: [(Cosine(20).abar, 4), (DDPM(1000).abar[::50], 2),
                   (torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64), 3)],
    mistakes=(
        (lambda abar, k: _shift(abar, k**2), lambda abar, k: _shift(abar, k),
         "wrong direction: the averaged picture has k^2 times the SNR, so the large one must get less."),
        (lambda abar, k: _shift(abar, 1 / k),
         "SNR is a ratio of squares: averaging k x k pixels multiplies it by k^2, not by k."),
        (lambda abar, k: _shift(abar, 1 / k**4),
         "that divides the SNR by k^4. Averaging k x k pixels multiplies it by k^2."),
        (lambda abar, k: abar / k**2, lambda abar, k: abar / k,
         "it is the SNR that is divided, not abar: abar_0 = 1, the clean picture, must stay 1."),
        (lambda abar, k: abar / (1 - abar) / k**2,
         "that is the new SNR. Turn it back: abar' = SNR' / (1 + SNR')."),
        (lambda abar, k: (abar / (1 - abar) / k**2) / (1 + abar / (1 - abar) / k**2),
         "it is right but for abar = 1, where the SNR is infinite and infinity by infinity is no number. "
         "Multiply both by 1 - abar: abar / (abar + k^2 (1 - abar))."),
        (lambda abar, k: abar ** (k**2), lambda abar, k: abar**k,
         "a power of abar is not what averaging does. Divide the SNR, abar / (1 - abar), by k^2."),
        (lambda abar, k: 1 - _shift(abar, 1 / k**2),
         "that is 1 - abar', the variance of the noise."),
        (lambda abar, k: _shift(abar, 1 / k**2).sqrt(),
         "that is a_t, the factor of the picture. abar' is its square: leave out the root."),
    ),
)
def shifted_abar(abar, k):
    """A schedule for pictures with k times as many pixels on each side: at each step, 1 / k^2 of the SNR.

    abar: (T+1,), abar[0] = 1. k: a number. Returns the shifted abar, (T+1,).
    (Hoogeboom et al. 2023, section 3.1, with ln SNR' = ln SNR - 2 ln k.)
    """
    return abar / (abar + k**2 * (1 - abar))
