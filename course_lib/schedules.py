"""Noise schedules: how much picture and how much noise is left at each time.

    x_t = signal(t) * x_0 + noise(t) * eps,    eps ~ N(0, I)

Every schedule answers three questions: the two coefficients at a time t, which times to
train on, and which times to visit when sampling (from noisy to clean).

| schedule | signal | noise | source |
|---|---|---|---|
| DDPM, Cosine | sqrt(abar_t) | sqrt(1 - abar_t) | Ho et al. 2020 eq. 4; Nichol & Dhariwal 2021 eq. 17 |
| Karras | 1 | sigma | Karras et al. 2022 (EDM), table 1 |
| Flow | 1 - t | t | Lipman et al. 2023; Liu et al. 2023 |
"""
import math

import torch
from torch import Tensor


class Schedule:
    """x_t = signal(t) * x_0 + noise(t) * eps. Times are tensors of any shape, noisy = large."""

    def signal(self, t: Tensor) -> Tensor:
        """Coefficient of the clean picture at time t, in [0, 1]."""
        raise NotImplementedError

    def noise(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        raise NotImplementedError

    def draw_t(self, n: int, device=None, generator=None) -> Tensor:
        """n training times, (n,)."""
        raise NotImplementedError

    def grid(self, steps: int, device=None) -> Tensor:
        """steps + 1 sampling times from the noisiest to the clean picture (noise 0), (steps+1,)."""
        raise NotImplementedError

    def net_input(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees: the noisy picture and a time in the range 0 .. 1000."""
        return x_t, t

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = ln(signal / noise), half the log of the signal-to-noise ratio."""
        return torch.log(self.signal(t) / self.noise(t))

    def add_noise(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The forward process in one step: x_0, eps (B, ...) and t (B,) -> x_t (B, ...)."""
        return like(self.signal(t), x_0) * x_0 + like(self.noise(t), x_0) * eps


class DDPM(Schedule):
    """The discrete chain of Ho et al. 2020: t = 1 .. T, and t = 0 is the clean picture.

    beta: (T,) noise variances of the single steps; default 1e-4 .. 0.02, linear (their section 4).
    `beta`, `alpha`, `abar` are stored with length T + 1 in float64, so that `abar[t]` is the
    paper's symbol for t = 1 .. T and `abar[0] = 1`. Times are integers (int64).
    """

    def __init__(self, T: int = 1000, beta: Tensor | None = None):
        beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64) if beta is None else beta.double()
        if beta.shape != (T,) or not (beta.min() > 0 and beta.max() < 1):  # also refuses NaN
            raise ValueError(f"beta must be {T} numbers between 0 and 1, got shape "
                             f"{tuple(beta.shape)} in [{beta.min():.3g}, {beta.max():.3g}]")
        self.T = T
        self.beta = torch.cat([beta.new_zeros(1), beta])
        self.alpha = 1 - self.beta
        self.abar = self.alpha.cumprod(0)

    def signal(self, t):
        return self._at(t).sqrt()

    def noise(self, t):
        return (1 - self._at(t)).sqrt()  # in float64: near t = 0, 1 - abar is tiny

    def _at(self, t):
        if t.is_floating_point() or t.min() < 0 or t.max() > self.T:
            raise ValueError(f"DDPM times are integers 0 .. {self.T}, got {t.dtype} in "
                             f"[{t.min().item():.4g}, {t.max().item():.4g}]")
        dtype = torch.float32 if t.device.type == "mps" else torch.float64  # Apple has no float64
        return self.abar.to(t.device, dtype)[t]

    def draw_t(self, n, device=None, generator=None):
        return torch.randint(1, self.T + 1, (n,), device=device, generator=generator)

    def grid(self, steps, device=None):
        if not 1 <= steps <= self.T:
            raise ValueError(f"a chain of {self.T} steps can be sampled in 1 .. {self.T} steps, "
                             f"not {steps}")
        return torch.linspace(self.T, 0, steps + 1, device=device).round().long()


def Cosine(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> DDPM:
    """The cosine schedule (Nichol & Dhariwal 2021, eq. 17) is DDPM with other betas."""
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2) ** 2
    return DDPM(T, beta=(1 - f[1:] / f[:-1]).clamp(max=max_beta))


class Karras(Schedule):
    """EDM (Karras et al. 2022): the picture is never shrunk, t is the noise level sigma itself.

    sigma_data: standard deviation of the data. Training draws ln(sigma) ~ N(mean, std^2);
    sampling spaces sigma^(1/rho) evenly between sigma_max and sigma_min (their eq. 5), then 0.
    """

    def __init__(self, sigma_min=0.002, sigma_max=80.0, rho=7.0, sigma_data=0.5, mean=-1.2, std=1.2):
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.sigma_data, self.mean, self.std = sigma_data, mean, std

    def signal(self, t):
        return torch.ones_like(t)

    def noise(self, t):
        return t

    def draw_t(self, n, device=None, generator=None):
        return torch.exp(self.mean + self.std * torch.randn(n, device=device, generator=generator))

    def grid(self, steps, device=None):
        _at_least_one(steps)
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = (high + ramp * (low - high)) ** self.rho
        return torch.cat([sigma, sigma.new_zeros(1)]).float().to(device)

    def net_input(self, x_t, t):
        scale = (t**2 + self.sigma_data**2).rsqrt()  # c_in: unit variance whatever sigma
        return like(scale, x_t) * x_t, 250 * torch.log(t)  # ln(sigma) / 4, in thousandths


class Flow(Schedule):
    """The straight path x_t = (1 - t) x_0 + t eps of flow matching, t in [0, 1].

    Training times are logit-normal, t = sigmoid(N(mean, std^2)) (Esser et al. 2024, eq. 19).
    shift > 1 moves sampling times towards the noise, t' = shift t / (1 + (shift - 1) t) (eq. 23).
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, shift: float = 1.0):
        self.mean, self.std, self.shift = mean, std, shift

    def signal(self, t):
        return 1 - t

    def noise(self, t):
        return t

    def draw_t(self, n, device=None, generator=None):
        z = torch.randn(n, device=device, generator=generator)
        return torch.sigmoid(self.mean + self.std * z)

    def grid(self, steps, device=None):
        _at_least_one(steps)
        t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return (self.shift * t / (1 + (self.shift - 1) * t)).float().to(device)

    def net_input(self, x_t, t):
        return x_t, 1000 * t


def _at_least_one(steps):
    if steps < 1:
        raise ValueError(f"sampling takes at least 1 step, not {steps}")


def like(v: Tensor, x: Tensor) -> Tensor:
    """Give v (B,) or () the axes and the type of x (B, ...): each picture gets its own number."""
    return v.to(x.dtype).reshape(v.shape + (1,) * (x.ndim - v.ndim if v.ndim else 0))
