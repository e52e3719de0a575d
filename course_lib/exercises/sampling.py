"""Exercises of notebook 03, sampling: from x_t to a less noisy x_r, and which times to visit."""
import torch

from ..schedules import DDPM
from . import normal, problem

# ---- ddpm_step --------------------------------------------------------------------------------

def three() -> list:
    """Stand-ins for x_t, eps_hat (or x0) and z (or x0_prev)."""
    return [normal(2, 3, 4, 4, seed=seed) for seed in range(3)]


def _ddpm_cases():
    coarse, fine = DDPM(10, beta=torch.linspace(0.05, 0.5, 10)), DDPM(1000)
    xt, eps, z = three()
    return [(xt, eps, t, c.beta, c.abar, z)
            for c, t in ((coarse, 6), (coarse, 10), (fine, 300), (coarse, 1))]


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
    """A wrong mean, with either of the two right variances, or without noise."""
    return _step(mean), _step(mean, _beta_sd), _step(mean, lambda *_: 0.0)


def _both_sizes(sd):
    """A wrong factor of z, in all steps or, as it should be, not in the last one."""
    return _step(sd=sd), _step(sd=lambda t, b, ab: sd(t, b, ab) if t > 1 else 0.0)


_RIGHT, _BETA, _ABAR, _BOTH = (lambda b, ab, i=i, j=j: (b.roll(i), ab.roll(j))
                               for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)))


def _slips(sd, slips_of_sd):
    """betas[t - 1], abar[t - 1], or both of them: in the mean, in the noise, or in both."""
    def step(mean, noise):
        return _step(lambda x, e, t, b, ab: _mean(x, e, t, *mean(b, ab)),
                     lambda t, b, ab: sd(t, *noise(b, ab)))
    return [step(mean, noise) for mean in (_RIGHT, _BETA, _ABAR, _BOTH) for noise in slips_of_sd
            if (mean, noise) != (_RIGHT, _RIGHT)]


@problem(
    works="one step of Algorithm 2: the mean of x_(t-1), then fresh noise, but none at the end.",
    hints=("Remove a little of the predicted noise, undo the shrinking of this one step, add noise.",
           "mean = (x_t - beta_t / sqrt(1 - abar_t) * eps_hat) / sqrt(1 - beta_t), then sigma z, and z only "
           "for t > 1. sigma^2 = beta_t is the larger choice, the posterior's variance "
           "beta_t (1 - abar_(t-1)) / (1 - abar_t) the smaller one. Both are right.",
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
        (*_both(lambda x, e, t, b, ab: x - (1 - ab[t]).sqrt() * e),
         *_both(lambda x, e, t, b, ab: (x - (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt()),
         "you take out all the predicted noise, s eps_hat, at once. One step removes beta_t / s eps_hat."),
        (*_both(lambda x, e, t, b, ab: (x + b[t] / (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt()),
         "the predicted noise is added: subtract it."),
        (*_both(lambda x, e, t, b, ab: (x - b[t] / (1 - ab[t]).sqrt() * e) * (1 - b[t]).sqrt()),
         "you shrink once more: undo the shrinking of the forward step, divide by sqrt(1 - beta_t)."),
        (*_both(lambda x, e, t, b, ab: (x - b[t] / (1 - ab[t]).sqrt() * e) / (1 - b[t])),
         "a root is missing: all of it is divided by sqrt(1 - beta_t)."),
        (*_both(lambda x, e, t, b, ab: (x - (1 - b[t]) / (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt()),
         "the factor of the predicted noise is beta_t / s, what is lost in this step, not (1 - beta_t) / s."),
        (*_both(lambda x, e, t, b, ab: x / (1 - b[t]).sqrt() - b[t] / (1 - ab[t]).sqrt() * e),
         "brackets: the noise is subtracted first, then all of it is divided by sqrt(1 - beta_t)."),
        (_step(sd=lambda t, b, ab: b[t] if t > 1 else 0.0),
         _step(sd=lambda t, b, ab: _posterior_sd(t, b, ab) ** 2),
         "z is multiplied by sigma^2, a variance. Multiply it by sigma, the root."),
        (*_both_sizes(lambda t, b, ab: 1.0), "sigma is missing: multiply z by sqrt(beta_t)."),
        (*_both_sizes(lambda t, b, ab: (1 - ab[t]).sqrt()),
         *_both_sizes(lambda t, b, ab: (1 - ab[t - 1]).sqrt()),
         "z gets the noise level of a whole x_t. One step adds only a little: sigma = sqrt(beta_t)."),
        (*_both_sizes(lambda t, b, ab: (b[t] * (1 - ab[t]) / (1 - ab[t - 1])).sqrt()),
         "the ratio in sigma is upside down: the posterior's is (1 - abar_(t-1)) / (1 - abar_t), below 1."),
        (_step(sd=lambda t, b, ab: b[t].sqrt()),
         "the last step, t = 1, must add no noise: it would stay as grain on the final picture."),
        (_step(sd=lambda *_: 0.0), "there is no fresh noise: z is unused, and the samples collapse."),
        (*_slips(_posterior_sd, (_RIGHT, _BETA, _ABAR, _BOTH)), *_slips(_beta_sd, (_RIGHT, _BETA)),
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
    mean = (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    sigma = (betas[t] * (1 - abar[t - 1]) / (1 - abar[t])).sqrt()  # the posterior's: 0 at t = 1
    return mean + sigma * z


# ---- ddim_step --------------------------------------------------------------------------------

def _ddim_cases():
    xt, eps, z = three()
    return [(xt, eps, torch.tensor(t), torch.tensor(r), eta, z) for t, r, eta in (
        (0.3, 0.7, 0.0), (0.3, 0.7, 0.5), (0.1, 0.25, 1.0), (0.8, 1.0, 0.5), (0.8, 1.0, 0.0))]


def _sigma(t, r, eta):
    return eta * ((1 - r) / (1 - t)).sqrt() * (1 - t / r).sqrt()


def _x0_hat(xt, eps, t):
    return (xt - (1 - t).sqrt() * eps) / t.sqrt()


def _ddim(sigma=_sigma, x0=_x0_hat, noise=lambda eps, z: eps, shrink=torch.sqrt, root=torch.sqrt,
          towards=lambda t, r, sd: 1 - r - sd**2, fresh=1.0, least=-torch.inf):
    """A DDIM step with one part replaced; `towards` is the variance given to eps_hat, at least `least`."""
    def step(xt, eps, t, r, eta, z):
        sd = sigma(t, r, eta)
        direction = root(towards(t, r, sd).clamp(min=least)) * noise(eps, z)
        return shrink(r) * x0(xt, eps, t) + direction + fresh * sd * z
    return step


def _clamped(**parts):
    """A wrong step as it is, and with max(0, ...) under the root."""
    return _ddim(**parts), _ddim(least=0.0, **parts)


def _no_root(xt, eps, t):
    return (xt - (1 - t) * eps) / t


def _x0_hat_only(xt, eps, t, r, eta, z):
    return _x0_hat(xt, eps, t)


def _same(v):
    return v


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
        (_x0_hat_only, "that is x0_hat, the end of the way. Noise it again, to the level of r."),
        (_ddim(fresh=0.0), "sigma z is missing: the root makes room for fresh noise, and none comes."),
        (*(_ddim(**{k: v for k, v in no_roots.items() if k in which})
           for which in (("x0",), ("shrink",), ("root",), ("shrink", "root"), ("x0", "shrink", "root"))
           for no_roots in ({"x0": _no_root, "shrink": _same, "root": _same},)),
         "a root is missing: the coefficients are sqrt(abar) and sqrt(1 - abar), in x0_hat and after it."),
        (*_clamped(towards=lambda t, r, sd: 1 - r - sd),
         _ddim(towards=lambda t, r, sd: ((1 - r).sqrt() - sd)**2),
         "variances add up, not standard deviations: under the root stands 1 - abar_r - sigma^2."),
        (*_clamped(sigma=lambda t, r, eta: eta * ((1 - r) / (1 - t)).sqrt() * (1 - r / t).sqrt()),
         *_clamped(sigma=lambda t, r, eta: eta * ((1 - r) / (1 - t) * (1 - r / t)).sqrt()),
         *_clamped(sigma=lambda t, r, eta: eta * ((1 - t) / (1 - r)).sqrt() * (1 - t / r).sqrt()),
         "a root of a negative number, or 1 / 0: are abar_t and abar_r exchanged, or is a ratio in sigma "
         "upside down? (1 - abar_r) / (1 - abar_t) and abar_t / abar_r are below 1."),
        (*_clamped(sigma=lambda t, r, eta: eta),
         "eta stands in place of sigma. sigma is eta times a factor that depends on t and r."),
        (_ddim(sigma=lambda t, r, eta: _sigma(t, r, eta) ** 2),
         "z is multiplied by sigma^2, a variance. Multiply it by sigma, the root."),
        (_ddim(sigma=lambda t, r, eta: 0.0),
         "at eta = 0 this is right, but for eta > 0 no noise is fresh. Either eta is not used, or sigma is 0 "
         "because of a ratio that is upside down: abar_t / abar_r is below 1."),
        (*_clamped(sigma=lambda t, r, eta: eta * (1 - r).sqrt()),
         *_clamped(sigma=lambda t, r, eta: eta * (1 - t / r).sqrt()),
         *_clamped(sigma=lambda t, r, eta: eta * ((1 - r) / (1 - t)).sqrt()),
         *_clamped(sigma=lambda t, r, eta: eta * (1 - t).sqrt()),
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
    x0_hat = (xt - (1 - abar_t).sqrt() * eps_hat) / abar_t.sqrt()
    sigma = eta * ((1 - abar_r) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_r).sqrt()
    return abar_r.sqrt() * x0_hat + (1 - abar_r - sigma**2).sqrt() * eps_hat + sigma * z


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
