"""Samplers: from noise to a picture, one step at a time.

`sample` walks down the schedule's times; a *step* is a function that goes from x_t to
x_r, r < t. Four of them, each one equation:

| step | equation | network calls |
|---|---|---|
| ddpm | x_r = E[x_r given x_t, x0_hat] + sigma z        (Ho et al. 2020, Algorithm 2) | 1 |
| ddim | x_r = a_r x0_hat + sqrt(s_r^2 - sigma^2) eps_hat + sigma z  (Song et al. 2021, eq. 12) | 1 |
| heun | average the slope at both ends of the step      (Karras et al. 2022, Algorithm 1) | 2 |
| dpmpp_2m | extrapolate x0_hat from the last two steps  (Lu et al. 2022, DPM-Solver++, Algorithm 2) | 1 |

With eta = 0, ddim is Euler's method for the probability-flow ODE of every schedule: for EDM and
for flow matching the same line of code is *their* Euler sampler.
"""
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from . import checks
from .guidance import same_schedule
from .rng import normal
from .schedules import Schedule


class State(NamedTuple):
    """Where a sampler stands: picture x at time t, and the x0 predicted on the way, at time t0."""
    t: Tensor
    x: Tensor
    x0: Tensor | None = None
    t0: Tensor | None = None


Step = Callable[[Callable, Schedule, State, Tensor], State]


@checks.typed
@torch.no_grad()
def sample(denoise: Callable, schedule: Schedule, x: Tensor, steps: int,
           step: Step | None = None) -> Iterator[State]:
    """Yield the state after each of `steps` steps, so that a film comes for free; `draw` gives the end alone.

    denoise: (x_t, t) -> Pred(x0, eps), a Denoiser or a function of one; a bare network is none. x: the start,
    (B, ...), drawn from N(0, noise(t_max)^2 I): `schedule.start`. step: one of the four below, default
    ddim(). Raises ValueError where the denoiser has learned another schedule.
    """
    if (learned := getattr(denoise, "schedule", None)) is not None:
        same_schedule(learned, schedule)
    checks.finite(x, "x, the start,")
    if step in (ddpm, ddim, heun, dpmpp_2m):
        raise ValueError(f"step={step.__name__}() wants its parentheses")
    step = step or ddim()
    times = schedule.times(steps, x.device)
    state = State(times[0], x)
    for r in times[1:]:
        state = step(denoise, schedule, state, r)
        yield state


@checks.typed
def draw(denoise: Callable, schedule: Schedule, x: Tensor, steps: int, step: Step | None = None) -> Tensor:
    """The end of the chain that `sample` walks, (B, ...), like x: nothing on the way is kept."""
    for state in sample(denoise, schedule, x, steps, step):
        x = state.x
    return x


@checks.typed
def ddpm(variance: str = "posterior", generator: torch.Generator | None = None) -> Step:
    """Ancestral sampling. variance: "posterior" (btilde_t) or "beta" (Ho's sigma_t^2 = beta_t).

    Between t and an earlier r the chain's alpha is (a_t / a_r)^2, and its beta the noise that is added on
    top, s_t^2 - alpha s_r^2: for Ho's chain 1 - alpha. So it walks every schedule.
    """
    checks.choice(variance, ("posterior", "beta"), "variance")

    def step(denoise, schedule, state, r):
        t, x_t = state.t, state.x
        x0, _ = denoise(x_t, t)
        a_t, s_t, a_r, s_r = _coefficients(schedule, t, r)
        alpha = (a_t / a_r) ** 2
        beta = s_t**2 - alpha * s_r**2
        mean = (a_r * beta * x0 + alpha.sqrt() * s_r**2 * x_t) / s_t**2
        var = beta * s_r**2 / s_t**2 if variance == "posterior" else beta
        if s_r > 0:  # the last step adds no noise
            mean = mean + var.sqrt() * normal(x_t.shape, generator, x_t.device, x_t.dtype)
        return State(r, mean, x0, t)
    return step


@checks.typed
def ddim(eta: float = 0.0, generator: torch.Generator | None = None) -> Step:
    """Deterministic for eta = 0; eta = 1 is ddpm with the posterior variance."""
    checks.number(eta, 0, 1, "eta")

    def step(denoise, schedule, state, r):
        t, x_t = state.t, state.x
        x0, eps = denoise(x_t, t)
        a_t, s_t, a_r, s_r = _coefficients(schedule, t, r)
        sigma = eta * s_r / s_t * (s_t**2 - (a_t / a_r) ** 2 * s_r**2).clamp(min=0).sqrt()
        x_r = a_r * x0 + (s_r**2 - sigma**2).clamp(min=0).sqrt() * eps
        if eta > 0:
            x_r = x_r + sigma * normal(x_t.shape, generator, x_t.device, x_t.dtype)
        return State(r, x_r, x0, t)
    return step


def heun() -> Step:
    """Second order: in y = x / a and q = s / a the ODE is dy = eps dq; use the mean of two slopes.

    Where a_t = 0 (pure noise) y does not exist, and where s_r = 0 (the last step) the second slope:
    there it is an Euler step, that is, ddim. So it is for q_t > 200 (EDM starts at 80, the linear
    chain at 157): from there a step in q is so long that the slope at its other end says nothing.
    """
    def step(denoise, schedule, state, r):
        t, x_t = state.t, state.x
        x0, eps = denoise(x_t, t)
        a_t, s_t, a_r, s_r = _coefficients(schedule, t, r)
        x_r = a_r * x0 + s_r * eps
        if a_t > 0.005 * s_t and s_r > 0:
            slope = (eps + denoise(x_r, r).eps) / 2
            x_r = a_r * (x_t / a_t + (s_r / a_r - s_t / a_t) * slope)
        return State(r, x_r, x0, t)
    return step


def dpmpp_2m() -> Step:
    """Second order from memory: no second network call, the last x0_hat gives the slope."""
    def step(denoise, schedule, state, r):
        t, x_t = state.t, state.x
        x0, _ = denoise(x_t, t)
        _, s_t, a_r, s_r = _coefficients(schedule, t, r)
        h = schedule.log_snr(r) - schedule.log_snr(t)
        direction = x0
        if state.x0 is not None and s_r > 0:  # first and last step: ddim
            k = (schedule.log_snr(t) - schedule.log_snr(state.t0)) / h
            direction = (1 + 1 / (2 * k)) * x0 - state.x0 / (2 * k)
        x_r = s_r / s_t * x_t - a_r * torch.expm1(-h) * direction
        return State(r, x_r, x0, t)
    return step


def _coefficients(schedule, t, r):
    return schedule.signal(t), schedule.noise(t), schedule.signal(r), schedule.noise(r)
