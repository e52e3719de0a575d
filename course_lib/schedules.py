"""Noise schedules: how much picture and how much noise is left at each time.

    x_t = signal(t) * x_0 + noise(t) * eps,    eps ~ N(0, I)

Every schedule answers three questions: the two coefficients at a time t, which times to
train on, and which times to visit when sampling (from noisy to clean).

| schedule | signal | noise | source |
|---|---|---|---|
| DDPM, Cosine | sqrt(abar_t) | sqrt(1 - abar_t) | Ho et al. 2020 eq. 4; Nichol & Dhariwal 2021 eq. 17 |
| EDM | 1 | sigma | Karras et al. 2022 (EDM), table 1 |
| Flow | 1 - t | t | Lipman et al. 2023; Liu et al. 2023 |
"""
import math

import torch
from torch import Tensor

from . import checks
from .rng import normal, whole


class Schedule:
    """x_t = signal(t) * x_0 + noise(t) * eps. Times are tensors of any shape, noisy = large.

    t_max: the noisiest time. sigma_data: the standard deviation of the data that it is made for.
    """
    t_max: float
    sigma_data: float = 1.0

    def signal(self, t: Tensor) -> Tensor:
        """Coefficient of the clean picture at time t, in [0, 1]."""
        raise NotImplementedError

    def noise(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        raise NotImplementedError

    def draw_t(self, n: int, device=None, generator=None) -> Tensor:
        """n training times, (n,)."""
        raise NotImplementedError

    def times(self, steps: int, device=None) -> Tensor:
        """steps + 1 sampling times from the noisiest to the clean picture (noise 0), (steps+1,)."""
        raise NotImplementedError

    def net_input(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees: the noisy picture and a time in the range 0 .. 1000."""
        return x_t, t

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = ln(signal / noise), half the log of the signal-to-noise ratio."""
        return torch.log(self.signal(t) / self.noise(t))

    @checks.typed
    def add_noise(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The forward process in one step: x_0, eps (B, ...) and t (B,) -> x_t (B, ...). x_0 has about unit
        spread: pictures are in [-1, 1]."""
        checks.finite(x_0, "x_0")
        checks.finite(eps, "eps")
        if eps.shape != x_0.shape or self.check(t).shape not in ((len(x_0),), ()):
            raise ValueError(f"x_0 and eps must have one shape (B, ...), and t the shape (B,); given "
                             f"{tuple(x_0.shape)}, {tuple(eps.shape)} and {tuple(t.shape)}")
        return like(self.signal(t), x_0) * x_0 + like(self.noise(t), x_0) * eps

    @checks.typed
    def start(self, shape: tuple[int, ...], generator=None, device=None) -> Tensor:
        """Where sampling starts: noise N(0, noise(t_max)^2 I) of this shape, (B, ...)."""
        level = self.noise(self.times(1)[0]).item()
        return level * normal(shape, generator, device)

    def check(self, t: Tensor) -> Tensor:
        """t, if it is a tensor of times in 0 .. t_max; else ValueError."""
        if not torch.is_tensor(t) or t.is_complex() or t.dtype in (torch.bool, torch.uint8):
            raise ValueError(f"times are tensors, such as torch.tensor(5); given {checks.kind(t)}")
        if not checks.capturing() and not ((t >= 0) & (t <= self.t_max)).all():  # also refuses NaN
            raise ValueError(f"times of {type(self).__name__} lie in 0 (clean) .. {self.t_max:g} (noise); "
                             f"given {t.min().item():.4g} .. {t.max().item():.4g}")
        return t


@checks.typed
class DDPM(Schedule):
    """The discrete chain of Ho et al. 2020: t = 1 .. T, and t = 0 is the clean picture.

    beta: (T,) noise variances of the single steps; default 1e-4 .. 0.02, linear (their section 4).
    The last may be 1: nothing is left of the picture then (zero terminal SNR, Lin et al. 2024).
    `beta`, `alpha`, `abar` are stored with length T + 1 in float64, so that `abar[t]` is the
    paper's symbol for t = 1 .. T and `abar[0] = 1`. Times are integers (int64).
    """

    def __init__(self, T: int = 1000, beta: Tensor | None = None):
        checks.whole(T, 1, what="T, the number of steps,")
        beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64) if beta is None else beta
        beta = torch.as_tensor(beta).double()
        inside = beta.shape == (T,) and beta.min() > 0 and beta[:-1].lt(1).all() and beta[-1] <= 1
        if not inside:  # NaN neither
            raise ValueError(f"beta must be {T} numbers between 0 and 1, and only the last may be 1; given "
                             f"the shape {tuple(beta.shape)} in [{beta.min():.3g}, {beta.max():.3g}]")
        self.T = self.t_max = T
        self.beta = torch.cat([beta.new_zeros(1), beta])
        self.alpha = 1 - self.beta
        self.abar = self.alpha.cumprod(0)
        self._tables = {}  # abar on every device that has asked for it

    def signal(self, t):
        return self._at(t).sqrt()

    def noise(self, t):
        return (1 - self._at(t)).sqrt()  # in float64: near t = 0, 1 - abar is tiny

    def _at(self, t):
        self.check(t)
        if t.device not in self._tables:
            dtype = torch.float32 if t.device.type == "mps" else torch.float64  # Apple has no float64
            self._tables[t.device] = self.abar.to(t.device, dtype)
        return self._tables[t.device][t]

    def check(self, t):
        if torch.is_tensor(t) and t.is_floating_point():
            raise ValueError(f"DDPM times are integers 0 .. {self.T}, given {t.dtype}")
        return super().check(t)

    def draw_t(self, n, device=None, generator=None):
        return whole(1, self.T + 1, (n,), generator, device)

    def times(self, steps, device=None):
        checks.whole(steps, 1, self.T, f"the number of steps in a chain of {self.T}")
        return torch.linspace(self.T, 0, steps + 1, device=device).round().long()


@checks.typed
def Cosine(T: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> DDPM:
    """The cosine schedule (Nichol & Dhariwal 2021, eq. 17) is DDPM with other betas."""
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + offset) / (1 + offset) * math.pi / 2) ** 2
    return DDPM(T, beta=(1 - f[1:] / f[:-1]).clamp(max=max_beta))


@checks.typed
class EDM(Schedule):
    """Karras et al. 2022: the picture is never shrunk, t is the noise level sigma itself.

    sigma_data: standard deviation of the data. Training draws ln(sigma) ~ N(mean, std^2);
    sampling spaces sigma^(1/rho) evenly between sigma_max and sigma_min (their eq. 5), then 0.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0,
                 sigma_data: float = 0.5, mean: float = -1.2, std: float = 1.2):
        checks.numbers(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho, sigma_data=sigma_data, mean=mean,
                       std=std)
        if not 0 < sigma_min < sigma_max or min(rho, sigma_data, std) <= 0:
            raise ValueError("EDM needs 0 < sigma_min < sigma_max, and rho, sigma_data, std above 0; given "
                             f"{sigma_min}, {sigma_max}, {rho}, {sigma_data}, {std}")
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.sigma_data, self.mean, self.std = sigma_data, mean, std
        self.t_max = math.inf  # a training time may lie beyond sigma_max

    def signal(self, t):
        return torch.ones_like(self.check(t))

    def noise(self, t):
        return self.check(t)

    def draw_t(self, n, device=None, generator=None):
        return torch.exp(self.mean + self.std * normal((n,), generator, device))

    def times(self, steps, device=None):
        checks.whole(steps, 1, what="the number of steps")
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = (high + ramp * (low - high)) ** self.rho
        return torch.cat([sigma, sigma.new_zeros(1)]).float().to(device)

    def net_input(self, x_t, t):
        scale = (t**2 + self.sigma_data**2).rsqrt()  # c_in: unit variance whatever sigma
        return like(scale, x_t) * x_t, 250 * torch.log(t)  # ln(sigma) / 4, in thousandths


@checks.typed
class Flow(Schedule):
    """The straight path x_t = (1 - t) x_0 + t eps of flow matching, t in [0, 1].

    Training times are logit-normal, t = sigmoid(N(mean, std^2)) (Esser et al. 2024, eq. 19).
    shift > 1 moves sampling times towards the noise, t' = shift t / (1 + (shift - 1) t) (eq. 23).
    """
    t_max = 1.0

    def __init__(self, mean: float = 0.0, std: float = 1.0, shift: float = 1.0):
        checks.numbers(mean=mean, std=std, shift=shift)
        if min(std, shift) <= 0:
            raise ValueError(f"Flow needs std and shift above 0; given {std} and {shift}")
        self.mean, self.std, self.shift = mean, std, shift

    def signal(self, t):
        return 1 - self.check(t)

    def noise(self, t):
        return self.check(t)

    def draw_t(self, n, device=None, generator=None):
        return torch.sigmoid(self.mean + self.std * normal((n,), generator, device))

    def times(self, steps, device=None):
        checks.whole(steps, 1, what="the number of steps")
        t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return (self.shift * t / (1 + (self.shift - 1) * t)).float().to(device)

    def net_input(self, x_t, t):
        return x_t, 1000 * t


def like(v: Tensor, x: Tensor) -> Tensor:
    """Give v (B,) or () the axes and the type of x (B, ...): each picture gets its own number."""
    return v.to(x.dtype).reshape(v.shape + (1,) * (x.ndim - v.ndim if v.ndim else 0))
