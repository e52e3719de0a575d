"""2-D toys: clouds of points, and mixtures of Gaussians whose exact denoiser is a formula."""
from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks
from .denoiser import Pred
from .guidance import Composed
from .rng import normal, place, uniform, whole
from .schedules import Schedule


@checks.typed
def toy2d(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points (n, 2) of about unit size: "moons", "spiral", "ring" or "checkerboard"."""
    checks.choice(name, ("moons", "spiral", "ring", "checkerboard"), "toy")
    checks.whole(n, 1, what="the number of points")
    u, z = uniform((n,), generator, "cpu"), normal((n, 2), generator, "cpu")
    if name == "moons":
        side = torch.arange(n) % 2
        angle = torch.pi * u
        sign = 1 - 2 * side
        x = torch.stack([sign * angle.cos() + side - 0.5, sign * angle.sin() - 0.5 * side + 0.1], 1)
        return x + 0.07 * z
    if name == "spiral":
        angle = 3 * torch.pi * u.sqrt()
        return torch.stack([angle.cos(), angle.sin()], 1) * (angle / (3 * torch.pi))[:, None] * 1.5 + 0.04 * z
    if name == "ring":
        return torch.stack([(2 * torch.pi * u).cos(), (2 * torch.pi * u).sin()], 1) + 0.05 * z
    column = whole(0, 4, (n,), generator, "cpu")  # checkerboard
    row = 2 * whole(0, 2, (n,), generator, "cpu") + column % 2
    corner = torch.stack([column, row], 1) / 2 - 1
    return corner + uniform((n, 2), generator, "cpu") / 2


@checks.typed
class GaussianMixture:
    """A mixture of K round Gaussians in d dimensions whose noisy density is known at all times.

    weights (K,), means (K, d), std (K,). Noised, x_t = a x_0 + s eps is again a mixture, with
    means a mu_k and variances a^2 std_k^2 + s^2: so score and best denoiser are exact formulas.
    """

    def __init__(self, weights: Sequence[float], means: Sequence, std: float | Sequence[float]):
        means = torch.as_tensor(means)
        self.means = means if means.is_floating_point() else means.float()
        self.weights = torch.as_tensor(weights).to(self.means) / sum(weights)
        self.std = torch.as_tensor(std).to(self.means).expand(len(self.weights))
        fits = self.means.ndim == 2 and self.means.shape[:1] == self.weights.shape
        if not fits or not all(
                v.isfinite().all() and v.min() >= 0 for v in (self.weights, self.std, self.means.abs())):
            raise ValueError("expected K weights of at least 0, K means (K, d), and std of at least 0; given "
                             f"{tuple(self.weights.shape)}, {tuple(self.means.shape)}, {self.std.tolist()}")

    @checks.typed
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n points (n, d)."""
        checks.counts(n=n)
        here = self.means.device
        weights = self.weights.to(place(here, generator))
        k = torch.multinomial(weights, n, replacement=True, generator=generator).to(here)
        z = normal((n, self.means.shape[1]), generator, here, self.means.dtype)
        return self.means[k] + self.std[k, None] * z

    def _parts(self, x, a, s):
        """Log density of each component at x (N, d), times its weight: (N, K); and variances (K,)."""
        if checks.floats(x, "points").ndim != 2 or x.shape[1] != self.means.shape[1]:
            raise ValueError(f"points must be (N, {self.means.shape[1]}), given {checks.kind(x)}")
        var = a**2 * self.std**2 + s**2
        gap = ((x[:, None] - a * self.means) ** 2).sum(-1)
        return self.weights.log() - 0.5 * gap / var - 0.5 * x.shape[1] * torch.log(2 * torch.pi * var), var

    @checks.typed
    def log_prob(self, x: Tensor, a: float | Tensor = 1.0, s: float | Tensor = 0.0) -> Tensor:
        """ln p of x_t = a x_0 + s eps at x (N, d), (N,)."""
        return self._parts(x, a, s)[0].logsumexp(1)

    @checks.typed
    def score(self, x: Tensor, a: float | Tensor = 1.0, s: float | Tensor = 0.0) -> Tensor:
        """Gradient of log_prob, (N, d): where the density rises."""
        log_p, var = self._parts(x, a, s)
        pull = (a * self.means - x[:, None]) / var[:, None]  # (N, K, d)
        return (log_p.softmax(1)[..., None] * pull).sum(1)

    @checks.typed
    def denoiser(self, schedule: Schedule):
        """(x_t, t) -> Pred with the exact E[x_0 given x_t] = (x_t + s^2 score) / a (Tweedie) and
        E[eps given x_t] = -s score. t: one time for the whole batch. At a = 0, x0 is the mean."""
        def denoise(x, t):
            checks.floats(x, "points")
            a, s = (c.to(x).flatten()[0] for c in (schedule.signal(t), schedule.noise(t)))
            log_p, var = self._parts(x, a, s)
            w = log_p.softmax(1)  # which component did x come from?
            shrunk = self.means + (a * self.std**2 / var)[:, None] * (x[:, None] - a * self.means)
            return Pred((w[..., None] * shrunk).sum(1), -s * self.score(x, a, s))
        return Composed(schedule, denoise)
