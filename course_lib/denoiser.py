"""The denoiser: a network, a schedule, and the meaning of the network's output.

Whatever the network is asked to predict, the answer is one line,

    x0_hat = skip(t) * x_t + out(t) * net(x_t, t),

and a *target* is just the pair (skip, out):

| target | network predicts | skip | out | source |
|---|---|---|---|---|
| predict_eps  | the noise eps          | 1/a | -s/a | Ho et al. 2020, eq. 14 |
| predict_x0   | the clean picture      | 0   | 1    | Ho et al. 2020, section 3.2 |
| predict_v    | v = a eps - s x_0      | a   | -s   | Salimans & Ho 2022, appendix D |
| predict_flow | x_1 - x_0 = eps - x_0  | 1   | -s   | Lipman et al. 2023 |
| predict_edm  | unit-variance residual | c_skip | c_out | Karras et al. 2022, table 1 |

with a = signal(t), s = noise(t). The loss is the mean squared error between the network's output
and the output that would make x0_hat exact. For predict_eps this *is* L_simple.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import checks
from .schedules import Schedule, like


class Pred(NamedTuple):
    """What a denoiser knows about x_t: its guess of the picture and of the noise, both (B, ...)."""
    x0: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Target:
    """What a network predicts. coefficients: (a, s, sigma_data) -> (skip, out); it means what its name says
    where holds(a, s), in words: `rule`."""
    coefficients: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    rule: str
    holds: Callable[[Tensor, Tensor], Tensor]

    @property
    def __wrapped__(self) -> Callable:  # so that `show` and `help` find the formula
        return self.coefficients

    @property
    def __name__(self) -> str:
        return self.coefficients.__name__

    def __call__(self, a: Tensor, s: Tensor, sigma_data: float = 1.0) -> tuple[Tensor, Tensor]:
        """(skip, out) for these signals and noises; sigma_data, of the schedule, matters to EDM only."""
        return self.coefficients(a, s, sigma_data)


def target(rule: str, holds: Callable[[Tensor, Tensor], Tensor]):
    """Make a Target of the function that gives its coefficients."""
    return lambda coefficients: Target(coefficients, rule, holds)


@target("signal > 0 (it divides by the signal)", lambda a, s: a > 0)
def predict_eps(a, s, sigma_data):
    """Noise prediction: x0_hat = (x_t - s eps_hat) / a."""
    return 1 / a, -s / a


@target("any schedule", lambda a, s: a >= 0)
def predict_x0(a, s, sigma_data):
    """The network's output is the picture."""
    return torch.zeros_like(a), torch.ones_like(a)


@target("signal^2 + noise^2 = 1", lambda a, s: (a**2 + s**2 - 1).abs() < 1e-4)
def predict_v(a, s, sigma_data):
    """Velocity on the circle: x0_hat = a x_t - s v_hat."""
    return a, -s


@target("signal + noise = 1", lambda a, s: (a + s - 1).abs() < 1e-4)
def predict_flow(a, s, sigma_data):
    """Velocity of the straight path: x0_hat = x_t - t (eps - x_0)_hat."""
    return torch.ones_like(a), -s


@target("signal = 1", lambda a, s: (a - 1).abs() < 1e-4)
def predict_edm(a, s, sigma_data):
    """EDM preconditioning: the network always sees and predicts unit variance."""
    total = s**2 + sigma_data**2
    return sigma_data**2 / total, s * sigma_data / total.sqrt()


@checks.typed
class Denoiser(nn.Module):
    """net(x, time, **cond) -> same shape as x, together with its schedule and target.

    loss_as, floor: measure the error in the output space of another target, never dividing by
    less than `floor` there. predict_x0 with loss_as=predict_eps and floor 5^-0.5 is min-SNR-5
    (Hang et al. 2023); with loss_as=predict_flow it is Li & He 2025 (arXiv 2511.13720).
    """

    def __init__(self, net: Callable[..., Tensor], schedule: Schedule, target: Target = predict_eps,
                 loss_as: Target | None = None, floor: float = 0.0):
        super().__init__()
        self.net, self.schedule, self.target = net, schedule, target
        self.loss_as, self.floor = loss_as or target, checks.number(floor, 0, what="floor")
        t = schedule.times(2)[:-1]  # the noisiest time, where signals vanish, and one in the middle
        for f in (target, self.loss_as):
            if not f.holds(schedule.signal(t), schedule.noise(t)).all():
                raise ValueError(f"{f.__name__} needs {f.rule}; {type(schedule).__name__} breaks it."
                                 " Choose another target or schedule.")

    @checks.typed
    def forward(self, x_t: Tensor, t: Tensor, **cond) -> Pred:
        """x_t (B, ...), t (B,) or () -> Pred(x0, eps), each (B, ...). eps of the clean picture, at noise 0,
        is NaN: nothing tells it."""
        t = _times(t, checks.floats(x_t, "x_t"))
        a, s = (like(c, x_t) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        skip, out = self.target(a, s, self.schedule.sigma_data)
        net = self.net(*self.schedule.net_input(x_t, t), **cond)
        x0 = skip * x_t + out * net
        # eps follows from x_t = a x0 + s eps; asked for eps itself, do not divide by a small s
        return Pred(x0, net if self.target is predict_eps else (x_t - a * x0) / s)

    @checks.typed
    def loss(self, x_0: Tensor, t: Tensor | None = None, eps: Tensor | None = None, **cond) -> Tensor:
        """Mean squared error in network-output space, (). Draws t and eps where none are given.

        x_0 (B, ...): of about unit spread, as pictures in [-1, 1] are. t (B,) or (): times with noise; at 0
        there is nothing to predict."""
        checks.floats(x_0, "x_0")
        t = self.schedule.draw_t(len(x_0), x_0.device) if t is None else self._noisy(_times(t, x_0))
        eps = torch.randn_like(x_0) if eps is None else eps
        if checks.floats(eps, "eps").shape != x_0.shape:
            raise ValueError(f"eps must have the shape of x_0, {tuple(x_0.shape)}, given {tuple(eps.shape)}")
        a, s = (like(c, x_0) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        x0_hat = self(a * x_0 + s * eps, t, **cond).x0
        _, out = self.loss_as(a, s, self.schedule.sigma_data)
        return (((x_0 - x0_hat) / out.abs().clamp(min=self.floor)) ** 2).mean()

    def _noisy(self, t):
        if not (self.schedule.noise(t) > 0).all():
            raise ValueError(f"a training time is {t.min().item():.4g}, but t = 0 is the clean picture, in "
                             "which there is no noise to predict: times begin above 0. Is your t 0-based?")
        return t


def _times(t: Tensor, x: Tensor) -> Tensor:
    """One time for each sample of x (B, ...), on its device: t (B,), or () for all of them."""
    if t.shape not in ((), (1,), (len(x),)):
        raise ValueError(f"t must be a tensor of {len(x)} times, or of one; given {checks.kind(t)}")
    return t.expand(len(x)).to(x.device)


@checks.typed
def pred(x0: Tensor, schedule: Schedule, x_t: Tensor, t: Tensor) -> Pred:
    """x0 and the eps that follows from it by x_t = a x0 + s eps."""
    if checks.floats(x0, "x0").shape != checks.floats(x_t, "x_t").shape:
        raise ValueError(f"x0 and x_t must have one shape; given {tuple(x0.shape)} and {tuple(x_t.shape)}")
    return Pred(x0, (x_t - like(schedule.signal(t), x_t) * x0) / like(schedule.noise(t), x_t))
