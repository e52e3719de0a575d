"""Exercises of notebook 03, sampling: from x_t to a less noisy x_r, and which times to visit."""
import torch

from ..schedules import DDPM
from . import normal, problem

# ---- ddpm_step --------------------------------------------------------------------------------

def _three():
    """Stand-ins for x_t, eps_hat (or x0) and z (or x0_prev)."""
    return [normal(2, 3, 4, 4, seed=seed) for seed in range(3)]


def _ddpm_cases():
    coarse, fine = DDPM(10, beta=torch.linspace(0.05, 0.5, 10)), DDPM(1000)
    xt, eps, z = _three()
    return [(xt, eps, t, c.beta, c.abar, z)
            for c, t in ((coarse, 6), (coarse, 10), (fine, 300), (coarse, 1), (fine, 1))]


def _posterior_sd(t, betas, abar):
    return (betas[t] * (1 - abar[t - 1]) / (1 - abar[t])).sqrt()


def _beta_sd(t, betas, abar):
    return betas[t].sqrt() if t > 1 else 0.0


def _mean(xt, eps, t, betas, abar):
    return (xt - betas[t] / (1 - abar[t]).sqrt() * eps) / (1 - betas[t]).sqrt()


def _step(mean=_mean, sd=_posterior_sd):
    return lambda xt, eps, t, betas, abar, z: (mean(xt, eps, t, betas, abar)
                                               + sd(t, betas, abar) * z)


def _both(mean):
    """A wrong mean, with either of the two right variances."""
    return _step(mean), _step(mean, _beta_sd)


def _slips(sd):
    """betas[t - 1], abar[t - 1], or both of them."""
    return (lambda x, e, t, b, ab, z: _step(sd=sd)(x, e, t, b.roll(1), ab, z),
            lambda x, e, t, b, ab, z: _step(sd=sd)(x, e, t, b, ab.roll(1), z),
            lambda x, e, t, b, ab, z: _step(sd=sd)(x, e, t, b.roll(1), ab.roll(1), z))


@problem(
    works="one step of Algorithm 2: the mean of x_(t-1), then fresh noise, but none at the end.",
    hints=("Remove a little of the predicted noise, undo the shrinking of this one step, add noise.",
           "mean = (x_t - beta_t / sqrt(1 - abar_t) * eps_hat) / sqrt(1 - beta_t), then sigma z "
           "with sigma = sqrt(beta_t), and z only for t > 1.",
           "mean = (xt - betas[t] / ... * eps_hat) / (1 - betas[t]).sqrt(); "
           "return mean if t == 1 else mean + ... * z"),
    cases=_ddpm_cases,
    also=(_step(sd=_beta_sd),),
    mistakes=(
        (*_both(lambda x, e, t, b, ab: (x - b[t] / ab[t].sqrt() * e) / (1 - b[t]).sqrt()),
         "you divide by sqrt(abar_t). Divide by the noise coefficient, s = sqrt(1 - abar_t)."),
        (*_both(lambda x, e, t, b, ab: (x - b[t] / (1 - ab[t]) * e) / (1 - b[t]).sqrt()),
         "a root is missing: beta_t is divided by s = sqrt(1 - abar_t), not by its square."),
        (*_both(lambda x, e, t, b, ab: (x - b[t] * e) / (1 - b[t]).sqrt()),
         "the predicted noise is scaled by beta_t / sqrt(1 - abar_t), not by beta_t alone."),
        (*_both(lambda x, e, t, b, ab: x - b[t] / (1 - ab[t]).sqrt() * e),
         "the factor 1 / sqrt(1 - beta_t) is missing: the cloud shrinks from step to step."),
        (*_both(lambda x, e, t, b, ab: (x - b[t] / (1 - ab[t]).sqrt() * e) / ab[t].sqrt()),
         "you undo the shrinking of all t steps at once: divide by sqrt(1 - beta_t)."),
        (*_both(lambda x, e, t, b, ab: (x - (1 - ab[t]).sqrt() * e) / ab[t].sqrt()),
         "that mean is x0_hat: it takes out all the noise in one step. Take one small step."),
        (*_both(lambda x, e, t, b, ab: x - e),
         "you subtract the whole predicted noise; one step removes only a little of it."),
        (_step(sd=lambda t, b, ab: b[t] if t > 1 else 0.0),
         _step(sd=lambda t, b, ab: _posterior_sd(t, b, ab) ** 2),
         "z is multiplied by sigma^2, a variance. Multiply it by sigma, the root."),
        (_step(sd=lambda t, b, ab: b[t].sqrt()),
         "the last step, t = 1, must add no noise: it would stay as grain on the final picture."),
        (_step(sd=lambda *_: 0.0), "there is no fresh noise: z is unused, and the samples collapse."),
        (*_slips(_posterior_sd), *_slips(_beta_sd),
         "an index slip: betas and abar have T + 1 entries, so step t uses betas[t] and abar[t]."),
    ),
)
def ddpm_step(xt, eps_hat, t, betas, abar, z):
    """One step of Algorithm 2, from x_t to x_(t-1).

    xt, eps_hat: (B, C, H, W), the noisy picture and the noise predicted in it. t: an int in 1 .. T.
    betas, abar: (T+1,), betas[0] = 0 and abar[0] = 1, so betas[t] belongs to step t.
    z: fresh noise, like xt. Its variance is betas[t] or the posterior's, both are right.
    Returns x_(t-1), like xt. The last step, t = 1, adds no noise.
    """
    return _mean(xt, eps_hat, t, betas, abar) + _posterior_sd(t, betas, abar) * z


# ---- ddim_step --------------------------------------------------------------------------------

def _ddim_cases():
    xt, eps, z = _three()
    return [(xt, eps, torch.tensor(t), torch.tensor(r), eta, z) for t, r, eta in (
        (0.3, 0.7, 0.0), (0.3, 0.7, 0.5), (0.1, 0.25, 1.0), (0.8, 1.0, 0.5), (0.8, 1.0, 0.0))]


def _sigma(t, r, eta):
    return eta * ((1 - r) / (1 - t)).sqrt() * (1 - t / r).sqrt()


def _x0_hat(xt, eps, t):
    return (xt - (1 - t).sqrt() * eps) / t.sqrt()


def _ddim(sigma=_sigma, x0=_x0_hat, noise=lambda eps, z: eps,
          towards=lambda t, r, sd: 1 - r - sd**2, clamp=-torch.inf):
    """A DDIM step with one part replaced; `towards` is the variance given to eps_hat."""
    def step(xt, eps, t, r, eta, z):
        sd = sigma(t, r, eta)
        root = towards(t, r, sd).clamp(min=clamp).sqrt()
        return r.sqrt() * x0(xt, eps, t) + root * noise(eps, z) + sd * z
    return step


def _chain_step(xt, eps, t, r, eta, z):
    return (xt - (1 - t / r) / (1 - t).sqrt() * eps) / (t / r).sqrt() + _sigma(t, r, eta) * z


@problem(
    works="one step may now skip as many times as you like, with eta between 0 and 1.",
    hints=("Guess the picture, x0_hat, then noise it again to the level of r, with eps_hat.",
           "x_r = sqrt(abar_r) x0_hat + sqrt(1 - abar_r - sigma^2) eps_hat + sigma z, with "
           "sigma = eta sqrt((1 - abar_r) / (1 - abar_t)) sqrt(1 - abar_t / abar_r).",
           "x0 = (xt - (1 - abar_t).sqrt() * eps_hat) / abar_t.sqrt(), then the line of hint 2."),
    cases=_ddim_cases,
    mistakes=(
        (_ddim(towards=lambda t, r, sd: 1 - r),
         "the root lacks - sigma^2: too much noise for eta > 0. eps_hat and z share 1 - abar_r."),
        (_ddim(noise=lambda eps, z: z),
         _ddim(noise=lambda eps, z: z, sigma=lambda t, r, eta: 0.0),
         "z stands where eps_hat belongs: the step forgets where x_t came from."),
        (_chain_step,
         "that is the mean of DDPM's small step, made for r = t - 1 and eta = 1: it cannot skip. "
         "Go through x0_hat."),
        (_ddim(sigma=lambda t, r, eta: eta),
         _ddim(sigma=lambda t, r, eta: eta, clamp=0.0),
         "eta stands in place of sigma. sigma is eta times a factor that depends on t and r."),
        (_ddim(sigma=lambda t, r, eta: _sigma(t, r, eta) ** 2),
         "z is multiplied by sigma^2, a variance. Multiply it by sigma, the root."),
        (_ddim(sigma=lambda t, r, eta: 0.0),
         "eta is not used: at eta = 0 this is right, but for eta > 0 some of the noise is fresh."),
        (_ddim(sigma=lambda t, r, eta: eta * (1 - r).sqrt()),
         _ddim(sigma=lambda t, r, eta: eta * (1 - t / r).sqrt()),
         _ddim(sigma=lambda t, r, eta: eta * ((1 - r) / (1 - t)).sqrt(), clamp=0.0),
         _ddim(sigma=lambda t, r, eta: eta * ((1 - r) / (1 - t)).sqrt()),
         "sigma is off: it is eta sqrt((1 - abar_r) / (1 - abar_t)) sqrt(1 - abar_t / abar_r)."),
        (_ddim(towards=lambda t, r, sd: 1 - t - sd**2),
         "eps_hat gets the noise level of t. You go to r: use 1 - abar_r."),
        (_ddim(x0=lambda xt, eps, t: xt - (1 - t).sqrt() * eps),
         "x0_hat is off: divide by sqrt(abar_t), because the picture was shrunk."),
        (_ddim(x0=lambda xt, eps, t: (xt - eps) / t.sqrt()),
         "x0_hat is off: the noise enters scaled by sqrt(1 - abar_t)."),
    ),
)
def ddim_step(xt, eps_hat, abar_t, abar_r, eta, z):
    """One DDIM step from time t to any earlier r.

    xt, eps_hat, z: (B, C, H, W): the noisy picture, the noise predicted in it, and fresh noise.
    abar_t, abar_r: tensors of one number, as abar[t] and abar[r] give; abar_t < abar_r, and
    abar_r = 1 in the last step. eta: a float, 0 (no fresh noise) .. 1 (as much as DDPM).
    Returns x_r = sqrt(abar_r) x0_hat + sqrt(1 - abar_r - sigma^2) eps_hat + sigma z, like xt, where
    sigma = eta sqrt((1 - abar_r) / (1 - abar_t)) sqrt(1 - abar_t / abar_r).
    """
    sigma = _sigma(abar_t, abar_r, eta)
    return (abar_r.sqrt() * _x0_hat(xt, eps_hat, abar_t)
            + (1 - abar_r - sigma**2).sqrt() * eps_hat + sigma * z)


# ---- timesteps: any spacing is right, so only the rules of a sampling grid are judged -----------

_GRIDS = ((1000, 20), (1000, 7), (100, 5))


def _always(rule):
    """rule(times, T, n) for every test grid, the times as a float64 tensor."""
    return lambda f: all(rule(torch.as_tensor(f(T, n)).double(), T, n) for T, n in _GRIDS)


@problem(
    works="these times start at pure noise, go down, and end at the clean picture.",
    hints=("Which noise level does the random start have? That must be the first time.",
           "n steps have n + 1 ends: n + 1 whole numbers, evenly spaced from T down to 0.",
           "torch.linspace(T, 0, ...).round().long()"),
    cases=lambda: list(_GRIDS),
    limits=(
        (_always(lambda t, T, n: t.ndim == 1), "return one list of times, (n + 1,)."),
        (_always(lambda t, T, n: len(t) < 2 or (t.diff() < 0).any() or t[0] > t[-1]),
         "the times are ascending. Sampling goes from noise to the picture: turn them round."),
        (_always(lambda t, T, n: t.min() >= 0 and t.max() <= T),
         "some times are out of range: they must lie in 0 .. T."),
        (_always(lambda t, T, n: t[0] == T),
         "the noisiest time, T, is missing: the sampler starts from an unseen level."),
        (_always(lambda t, T, n: t[-1] == 0),
         "the last time must be 0, the clean picture; without it some noise stays."),
        (_always(lambda t, T, n: len(t) == n + 1),
         "the number of times is wrong: n steps have n + 1 ends, also if n does not divide T."),
        (_always(lambda t, T, n: (t % 1 == 0).all()), "the chain has whole times only: round them."),
        (_always(lambda t, T, n: len(t.unique()) == len(t)),
         "there are duplicates: a step from t to the same t costs a network call for nothing."),
        (_always(lambda t, T, n: (t.diff() < 0).all()), "the times must go down at every step."),
    ),
    exact=False,
)
def timesteps(T, n):
    """The times that a sampler with n steps visits, in a chain of T steps.

    T, n: ints, n well below T.
    Returns n + 1 different whole numbers from T (noise) down to 0 (the picture), in any spacing.
    """
    return torch.linspace(T, 0, n + 1).round().long()


# ---- dpmpp_2m_step ----------------------------------------------------------------------------

def _2m_cases():
    """An uneven step, a first step, the last step, where s_next = 0 and lam_next is infinite."""
    def case(lam_prev, lam, lam_next):
        xt, x0, x0_prev = _three()
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
