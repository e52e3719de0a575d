"""Whole trajectories against Hugging Face diffusers, with one fixed nonlinear network in float64.

diffusers keeps its tables (betas, products, sigmas) in float32. Where its `step` computes in the
type of its tables we compare twice: with its own tables the difference is theirs, and with our
float64 tables put in their place nothing but rounding is left. Its Euler, DPM-Solver and
flow-matching steps also cast the sample to float32: there one rounding a step remains.

Its timestep is ours minus one: its 0 is the first noisy picture, ours the clean one.
"""
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import nn

from course_lib.denoiser import Denoiser, predict_eps, predict_flow, predict_v
from course_lib.samplers import ddim, ddpm, dpmpp_2m, heun, sample
from course_lib.schedules import DDPM, EDM, Flow


class Net(nn.Module):
    """A fixed function of the whole picture and of the time, not linear in either."""

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1, 1, 1) / 1000
        return torch.tanh(x.roll(1, 2) + 0.5 * x.flip(3) - t) + 0.3 * torch.sin(5 * t) * x


NET = Net()
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def film(denoiser, steps, step, x=X):
    return [x] + [state.x for state in sample(denoiser, denoiser.schedule, x, steps, step)]


def theirs(scheduler, x=X, time=lambda t: t + 1, scale=False, **kwargs):
    """diffusers' own loop: network on the (scaled) picture, then `step`."""
    out = [x]
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if scale else x
        x = scheduler.step(NET(seen, time(t)), t, x, **kwargs).prev_sample
        out.append(x)
    return out


def close(a, b, tolerance):
    """Every picture of both films, relative to the largest number of its own picture."""
    assert len(a) == len(b)
    for p, q in zip(a, b, strict=True):
        assert (p - q).abs().max() <= tolerance * max(1.0, p.abs().max().item())


def with_our_tables(scheduler, d):
    scheduler.alphas_cumprod, scheduler.one = d.abar[1:], torch.ones((), dtype=torch.float64)
    scheduler.betas, scheduler.alphas = d.beta[1:], d.alpha[1:]
    scheduler.final_alpha_cumprod = scheduler.one
    return scheduler


@pytest.mark.parametrize(("target", "steps"), [(predict_eps, 1000), (predict_eps, 25), (predict_v, 25)])
@pytest.mark.parametrize(("variance", "name"), [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ddpm(variance, name, target, steps):
    d, g = DDPM(), lambda: torch.Generator().manual_seed(1)
    ours = film(Denoiser(NET, d, target), steps, ddpm(variance, g()))
    prediction = {predict_eps: "epsilon", predict_v: "v_prediction"}[target]
    # "trailing" is the spacing of our grid; the other ones never visit t = T
    scheduler = DDPMScheduler(variance_type=name, clip_sample=False, timestep_spacing="trailing",
                              prediction_type=prediction)
    scheduler.set_timesteps(steps)
    assert torch.equal(scheduler.timesteps + 1, d.times(steps)[:-1])
    if variance == "beta" and steps < 1000:
        # diffusers adds noise wherever its timestep is not 0, so also when a shorter grid jumps
        # from t = 40 to the clean picture; ours never ends on noise. Compare up to there.
        ours = ours[:-1]
    # 1 - abar = 1e-4 .. 1e-3 in the last single steps is a difference of float32 numbers near 1,
    # right to 3 to 4 digits only (measured: 7e-5); a grid of 25 steps stops before (6e-7)
    close(ours, theirs(scheduler, generator=g())[:len(ours)], 2e-4 if steps == 1000 else 2e-6)
    # its variance is clipped at 1e-20, so a noise of 1e-10 is left in its last step
    close(ours, theirs(with_our_tables(scheduler, d), generator=g())[:len(ours)], 1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1000, 25])
def test_ddim(eta, steps):
    d, g = DDPM(), lambda: torch.Generator().manual_seed(1)
    ours = film(Denoiser(NET, d), steps, ddim(eta, g()))
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert torch.equal(scheduler.timesteps + 1, d.times(steps)[:-1])
    close(ours, theirs(scheduler, eta=eta, generator=g()), 1e-5)  # measured 2e-6
    close(ours, theirs(with_our_tables(scheduler, d), eta=eta, generator=g()), 1e-12)


@pytest.mark.parametrize("steps", [2, 10, 40])
def test_dpmpp_2m(steps):
    d = DDPM()
    ours = film(Denoiser(NET, d), steps, dpmpp_2m())
    scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2,
                                            final_sigmas_type="zero", timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert torch.equal(scheduler.timesteps + 1, d.times(steps)[:-1])
    # its sigmas = sqrt((1 - abar) / abar) and its sample are float32 (measured: 5e-7)
    close(ours, theirs(scheduler), 2e-6)


def sigma_space(Scheduler, steps):
    """EDM's variables in diffusers: use_karras_sigmas spaces its own largest and smallest sigma
    by eq. 5, and scale_model_input is c_in for sigma_data = 1."""
    scheduler = Scheduler(beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.unique().flip(0)  # Heun's list holds every inner one twice
    k = EDM(sigmas[-2].item(), sigmas[0].item(), sigma_data=1.0)
    torch.testing.assert_close(k.times(steps), sigmas, rtol=1e-5, atol=0)
    return scheduler, k, sigmas


@pytest.mark.parametrize(("Scheduler", "step"),
                         [(EulerDiscreteScheduler, ddim), (HeunDiscreteScheduler, heun)])
@pytest.mark.parametrize("steps", [5, 30])
def test_euler_and_heun_in_sigma_space(Scheduler, step, steps):
    scheduler, k, sigmas = sigma_space(Scheduler, steps)
    x = sigmas[0].double() * X
    ours = film(Denoiser(NET, k, predict_eps), steps, step(), x)
    index = iter(scheduler.sigmas[:-1]) if step is ddim else (s for p in pairwise(sigmas) for s in p)
    other = theirs(scheduler, x, time=lambda t: k.net_input(x, next(index))[1], scale=True)
    # their Heun takes two calls of `step` for one of ours, but one in the last step
    other = other if step is ddim else other[::2] + other[-1:]
    # times and sigmas are float32 on both sides, and so is the sample in their Euler (3e-7)
    close(ours, other, 2e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_euler(shift):
    steps, f = 30, Flow(shift=shift)
    ours = film(Denoiser(NET, f, predict_flow), steps, ddim())
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    torch.testing.assert_close(scheduler.sigmas, f.times(steps), rtol=1e-6, atol=0)
    close(ours, theirs(scheduler, time=lambda t: t), 2e-6)  # times, samples in float32: 2e-7
