"""The denoiser: a network, a schedule, and the meaning of the network's output.

Whatever the network is asked to predict, the answer is one line,

    x0_hat = skip(t) * x_t + out(t) * net(x_t, t),

and a *target* is just the pair (skip, out):

| target | network predicts | skip | out | source |
|---|---|---|---|---|
| predict_eps  | the noise eps          | 1/s | -n/s | Ho et al. 2020, eq. 14 |
| predict_x0   | the clean picture      | 0   | 1    | Ho et al. 2020, section 3.2 |
| predict_v    | v = s eps - n x_0      | s   | -n   | Salimans & Ho 2022, appendix D |
| predict_flow | x_1 - x_0 = eps - x_0  | 1   | -n   | Lipman et al. 2023 |
| predict_edm  | unit-variance residual | c_skip | c_out | Karras et al. 2022, table 1 |

with s = signal(t), n = noise(t). The loss is the mean squared error between the network's output
and the output that would make x0_hat exact. For predict_eps this *is* L_simple.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .schedules import Schedule, like

Target = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Pred(NamedTuple):
    """What a denoiser knows about x_t: its guess of the picture and of the noise, both (B, ...)."""
    x0: Tensor
    eps: Tensor


def needs(rule: str, holds: Callable[[Tensor, Tensor], Tensor]):
    """Attach to a target the condition under which it means what its name says."""
    def mark(target):
        target.rule, target.holds = rule, holds
        return target
    return mark


@needs("signal > 0 (it divides by the signal)", lambda s, n: s > 0)
def predict_eps(s, n):
    """Noise prediction: x0_hat = (x_t - n eps_hat) / s."""
    return 1 / s, -n / s


@needs("any schedule", lambda s, n: s >= 0)
def predict_x0(s, n):
    """The network's output is the picture."""
    return torch.zeros_like(s), torch.ones_like(s)


@needs("signal^2 + noise^2 = 1", lambda s, n: (s**2 + n**2 - 1).abs() < 1e-4)
def predict_v(s, n):
    """Velocity on the circle: x0_hat = s x_t - n v_hat."""
    return s, -n


@needs("signal + noise = 1", lambda s, n: (s + n - 1).abs() < 1e-4)
def predict_flow(s, n):
    """Velocity of the straight path: x0_hat = x_t - t (eps - x_0)_hat."""
    return torch.ones_like(s), -n


@needs("signal = 1", lambda s, n: (s - 1).abs() < 1e-4)
def predict_edm(s, n, sigma_data: float = 0.5):
    """EDM preconditioning: the network always sees and predicts unit variance."""
    total = n**2 + sigma_data**2
    return sigma_data**2 / total, n * sigma_data / total.sqrt()


class Denoiser(nn.Module):
    """net(x, time, **cond) -> same shape as x, together with its schedule and target.

    loss_as, floor: measure the error in the output space of another target, never dividing by
    less than `floor` there. predict_x0 with loss_as=predict_eps and floor 5^-0.5 is min-SNR-5
    (Hang et al. 2023); with loss_as=predict_flow it is Li & He 2025 (arXiv 2511.13720).
    """

    def __init__(self, net: nn.Module, schedule: Schedule, target: Target = predict_eps,
                 loss_as: Target | None = None, floor: float = 0.0):
        super().__init__()
        self.net, self.schedule, self.target = net, schedule, target
        self.loss_as, self.floor = loss_as or target, floor
        t = schedule.grid(2)[:-1]  # the noisiest time, where signals vanish, and one in the middle
        for f in (target, self.loss_as):
            if not f.holds(schedule.signal(t), schedule.noise(t)).all():
                raise ValueError(f"{f.__name__} needs {f.rule}; {type(schedule).__name__} breaks it."
                                 " Choose another target or schedule.")

    def forward(self, x_t: Tensor, t: Tensor, **cond) -> Pred:
        """x_t (B, ...), t (B,) or () -> Pred(x0, eps), each (B, ...)."""
        t = t.expand(len(x_t))
        s, n = (like(c, x_t) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        skip, out = self.target(s, n)
        net = self.net(*self.schedule.net_input(x_t, t), **cond)
        x0 = skip * x_t + out * net
        # eps follows from x_t = s x0 + n eps; asked for eps itself, do not divide by a small n
        return Pred(x0, net if self.target is predict_eps else (x_t - s * x0) / n)

    def loss(self, x_0: Tensor, t: Tensor | None = None, eps: Tensor | None = None, **cond) -> Tensor:
        """Mean squared error in network-output space, (). Draws t and eps where none are given."""
        t = self.schedule.draw_t(len(x_0), x_0.device) if t is None else t
        eps = torch.randn_like(x_0) if eps is None else eps
        s, n = (like(c, x_0) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        x0_hat = self(s * x_0 + n * eps, t, **cond).x0
        _, out = self.loss_as(s, n)
        return (((x_0 - x0_hat) / out.abs().clamp(min=self.floor)) ** 2).mean()


def guide(denoise, cond: dict, null: dict, w: float | Callable[[Tensor], float], rescale: float = 0.0):
    """Classifier-free guidance (Ho & Salimans 2022): null + w (cond - null), so w = 1 is none.

    cond, null: keyword tensors (B, ...) for `denoise`. Returns (x_t, t) -> Pred.
    Both predictions are linear in x0 and eps, so guiding either guides the other.
    w: a number, or a function of t, such as `interval`. rescale: the share, 0 .. 1, by which x0_hat gets
    back the standard deviation that it has without guidance (Lin et al. 2024, eq. 15 and 16).
    """
    def guided(x_t: Tensor, t: Tensor) -> Pred:
        scale = w(t) if callable(w) else w
        with_text = denoise(x_t, t, **cond)
        if scale == 1:  # half the work
            return with_text
        without = denoise(x_t, t, **null)
        pred = Pred(*(torch.lerp(u, c, scale) for u, c in zip(without, with_text, strict=True)))
        return _rescaled(pred, with_text, denoise.schedule, x_t, t, rescale) if rescale else pred
    return guided


def autoguide(denoise, weaker, w: float, **cond):
    """Guidance without a text (Karras et al. 2024, "Guiding a diffusion model with a bad version of
    itself"): weaker + w (denoise - weaker), so w = 1 is none.

    weaker: a model of the same data and the same schedule, but smaller and trained for a shorter time.
    It makes the same kind of mistakes, only larger; away from it is away from the mistakes. cond: tensors
    (B, ...) that only `denoise` is told; then the way also leads to what they ask for.
    Returns (x_t, t) -> Pred. Raises ValueError where the schedules differ.
    """
    noise = [model.schedule.noise(model.schedule.grid(9)) for model in (denoise, weaker)]
    if not torch.equal(*noise):
        raise ValueError("both models must have learned the same schedule; theirs have noise "
                         f"{noise[0][4]:.3f} and {noise[1][4]:.3f} half way")

    def guided(x_t: Tensor, t: Tensor) -> Pred:
        weak, strong = weaker(x_t, t), denoise(x_t, t, **cond)
        return Pred(*(torch.lerp(u, v, w) for u, v in zip(weak, strong, strict=True)))
    return guided


def interval(w: float, low: float, high: float) -> Callable[[Tensor], float]:
    """Guidance only at times low <= t <= high (Kynkäänniemi et al. 2024): early it takes variety away,
    late it changes nothing."""
    return lambda t: w if low <= t <= high else 1.0


def _rescaled(pred, with_text, schedule, x_t, t, share):
    spread = [like(p.x0.flatten(1).std(1), x_t) for p in (with_text, pred)]
    x0 = pred.x0 * (1 + share * (spread[0] / spread[1] - 1))
    return _pred(x0, schedule, x_t, t)


def _pred(x0, schedule, x_t, t) -> Pred:
    """eps follows from x0 by x_t = s x0 + n eps."""
    return Pred(x0, (x_t - like(schedule.signal(t), x_t) * x0) / like(schedule.noise(t), x_t))


def clip(denoise, schedule: Schedule, limit: float = 1.0):
    """Keep x0_hat within [-limit, limit], the range of pictures, and let eps follow (Ho et al.'s code
    does so). Needed where a noise prediction is divided by a signal near 0."""
    def clipped(x_t: Tensor, t: Tensor) -> Pred:
        return _pred(denoise(x_t, t).x0.clamp(-limit, limit), schedule, x_t, t)
    return clipped


def drop(cond: Tensor, null: Tensor, p: float, generator=None) -> Tensor:
    """Replace whole samples of cond (B, ...) by null (...) with probability p, each on its own."""
    keep = torch.rand(len(cond), device=cond.device, generator=generator) >= p
    return torch.where(keep.reshape(-1, *[1] * (cond.ndim - 1)), cond, null)


def augment(low_res: Tensor, level: Tensor) -> Tensor:
    """Noise on the condition: small pictures (B, ...) with a share `level` (B,) in 0 .. 1 of noise.

    A super-resolution network trained so forgives the flaws of generated small pictures, which
    it never saw in training (Ho et al. 2022, cascaded diffusion, section 4.2).
    """
    level = like(level, low_res)
    return (1 - level**2).sqrt() * low_res + level * torch.randn_like(low_res)
