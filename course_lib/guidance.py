"""Guidance: denoisers made of denoisers.

| function | x0_hat (and eps_hat) | source |
|---|---|---|
| guide     | null + w (cond - null): away from what it says without the text  | Ho & Salimans 2022 |
| autoguide | weaker + w (strong - weaker): away from a weaker model's mistakes | Karras et al. 2024 |
| clip_x0   | held within the range of pictures                                 | Ho et al. 2020, code |
| dynamic_threshold | the same, by a range that each picture finds for itself   | Saharia et al. 2022 |

What they return is again a denoiser, (x_t, t) -> Pred, and knows its schedule: so they can be combined.
`drop` and `augment` are what a network must have met in training to be guided, or to forgive a flawed small
picture.
"""
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import checks
from .denoiser import Pred, pred
from .rng import uniform
from .schedules import Schedule, like


@checks.typed
@dataclass(frozen=True)
class Composed:
    """A denoiser that is a formula: call(x_t, t, **cond) -> Pred, and its schedule (None where a bare
    function went into it)."""
    schedule: Schedule | None
    call: Callable[..., Pred]

    def __call__(self, x_t: Tensor, t: Tensor, **cond) -> Pred:
        return self.call(x_t, t, **cond)


@checks.typed
def told(denoise: Callable, **cond) -> Composed:
    """The denoiser with its conditions, tensors (B, ...), filled in."""
    return Composed(_schedule(denoise), lambda x_t, t: denoise(x_t, t, **cond))


@checks.typed
def guide(denoise: Callable, cond: dict, null: dict, w: float | Callable[[Tensor], float],
          rescale: float = 0.0) -> Composed:
    """Classifier-free guidance (Ho & Salimans 2022): null + w (cond - null), so w = 1 is none.

    cond, null: keyword tensors (B, ...) for `denoise`. Returns (x_t, t) -> Pred. Both predictions are linear
    in x0 and eps, so guiding either guides the other. w: a number, or a function of t that gives one number,
    such as `interval`. rescale: the share, 0 .. 1, by which x0_hat gets back the standard deviation that it
    has without guidance (Lin et al. 2024, eq. 15 and 16).
    """
    if not callable(w):
        checks.number(w, -torch.inf, what="w, the guidance scale,")
    schedule = _schedule(denoise, needed=checks.number(rescale, 0, 1, "rescale") > 0)

    def guided(x_t: Tensor, t: Tensor) -> Pred:
        scale = w(t) if callable(w) else w
        with_text = denoise(x_t, t, **cond)
        if scale == 1:  # half the work
            return with_text
        without = denoise(x_t, t, **null)
        mixed = Pred(*(torch.lerp(u, c, scale) for u, c in zip(without, with_text, strict=True)))
        return _rescaled(mixed, with_text, schedule, x_t, t, rescale) if rescale else mixed
    return Composed(schedule, guided)


@checks.typed
def autoguide(denoise: Callable, weaker: Callable, w: float, **cond) -> Composed:
    """Guidance without a text (Karras et al. 2024, "Guiding a diffusion model with a bad version of
    itself"): weaker + w (denoise - weaker), so w = 1 is none.

    weaker: a model of the same data and the same schedule, but smaller and trained for a shorter time.
    It makes the same kind of mistakes, only larger; away from it is away from the mistakes. cond: tensors
    (B, ...) that only `denoise` is told; then the way also leads to what they ask for.
    Returns (x_t, t) -> Pred. Raises ValueError where the schedules differ.
    """
    checks.number(w, -torch.inf, what="w, the guidance scale,")
    schedule = _schedule(denoise, needed=True)
    same_schedule(schedule, _schedule(weaker, needed=True))

    def guided(x_t: Tensor, t: Tensor) -> Pred:
        weak, strong = weaker(x_t, t), denoise(x_t, t, **cond)
        return Pred(*(torch.lerp(u, v, w) for u, v in zip(weak, strong, strict=True)))
    return Composed(schedule, guided)


@checks.typed
def interval(w: float, low: float, high: float) -> Callable[[Tensor], float]:
    """Guidance only at times low <= t <= high (Kynkäänniemi et al. 2024): early it takes variety away,
    late it changes nothing. The times are the schedule's, 0 .. 1000 for Cosine; t is one for the whole batch.
    """
    checks.number(w, -torch.inf, what="w, the guidance scale,")
    checks.numbers(low=low, high=high)
    if not low <= high:
        raise ValueError(f"an interval needs low <= high, given {low} and {high}")
    return lambda t: w if low <= t <= high else 1.0


@checks.typed
def clip_x0(denoise: Callable, limit: float = 1.0) -> Composed:
    """Keep x0_hat within [-limit, limit], the range of pictures, and let eps follow (Ho et al.'s code
    does so). Needed where a noise prediction is divided by a signal near 0."""
    checks.number(limit, 0, what="limit")
    schedule = _schedule(denoise, needed=True)

    def clipped(x_t: Tensor, t: Tensor, **cond) -> Pred:
        return pred(denoise(x_t, t, **cond).x0.clamp(-limit, limit), schedule, x_t, t)
    return Composed(schedule, clipped)


@checks.typed
def dynamic_threshold(denoise: Callable, q: float = 0.995) -> Composed:
    """Dynamic thresholding (Saharia et al. 2022, Imagen, section 2.3): of each picture, c is the q-quantile
    of |x0_hat|, but at least 1; x0_hat is held within [-c, c] and divided by c. So strong guidance, which
    pushes many pixels beyond the range, does not leave them all at its edge. eps follows."""
    checks.number(q, 0, 1, "q")
    schedule = _schedule(denoise, needed=True)

    def held(x_t: Tensor, t: Tensor, **cond) -> Pred:
        x0 = denoise(x_t, t, **cond).x0
        c = like(x0.flatten(1).abs().float().quantile(q, dim=1).clamp(min=1).to(x0), x0)
        return pred(x0.clamp(-c, c) / c, schedule, x_t, t)
    return Composed(schedule, held)


@checks.typed
def same_schedule(one: Schedule, other: Schedule) -> None:
    """Raise ValueError unless both mean the same by a time: equal signals and noises, for data of equal
    spread. Which times are visited when sampling may differ."""
    if one is other:
        return
    t = one.times(min(8, getattr(one, "T", 8)))
    try:
        alike = torch.equal(one.signal(t), other.signal(t)) and torch.equal(one.noise(t), other.noise(t))
    except ValueError:  # these are no times of the other
        alike = False
    if not alike or one.sigma_data != other.sigma_data:
        raise ValueError(f"both must have the same schedule; these are {_words(one)}, and {_words(other)}")


def _words(schedule) -> str:
    t = schedule.times(2)[1]
    noise = schedule.noise(t).item()
    spread = f", for data of spread {schedule.sigma_data:g}" if schedule.sigma_data != 1 else ""
    return f"{type(schedule).__name__} with noise {noise:.3f} at t = {t.item():.4g}{spread}"


def _schedule(denoise, needed: bool = False) -> Schedule | None:
    schedule = getattr(denoise, "schedule", None)
    if needed and schedule is None:
        raise ValueError("this needs a denoiser that knows its schedule; a function f becomes one by "
                         "guidance.Composed(schedule, f)")
    return schedule


def _rescaled(mixed, with_text, schedule, x_t, t, share):
    wanted, found = (like(p.x0.flatten(1).std(1), x_t) for p in (with_text, mixed))
    ratio = torch.where(found > 0, wanted / found, 1.0)  # a picture of one colour has no spread
    return pred(mixed.x0 * (1 + share * (ratio - 1)), schedule, x_t, t)


@checks.typed
def drop(cond: Tensor, null: Tensor, p: float, generator: torch.Generator | None = None) -> Tensor:
    """Replace whole samples of cond (B, ...) by null (...) with probability p, each on its own."""
    keep = uniform((len(cond),), generator, cond.device) >= checks.number(p, 0, 1, "p")
    return torch.where(keep.reshape(-1, *[1] * (cond.ndim - 1)), cond, null)


@checks.typed
def augment(low_res: Tensor, level: Tensor) -> Tensor:
    """Noise on the condition: small pictures (B, ...) with a share `level` (B,) in 0 .. 1 of noise.

    A super-resolution network trained so forgives the flaws of generated small pictures, which
    it never saw in training (Ho et al. 2022, cascaded diffusion, section 4.2).
    """
    checks.pictures(low_res, what="low_res")
    fits = torch.is_tensor(level) and level.shape == (len(low_res),)
    if not fits or not ((level >= 0) & (level <= 1)).all():
        raise ValueError(f"level must be {len(low_res)} numbers in 0 .. 1, one a picture, given {level!r}")
    level = like(level, low_res)
    return (1 - level**2).sqrt() * low_res + level * torch.randn_like(low_res)
