"""Drawing tokens: one after the other (`write`), or several at once (`unmask`).

A network that learned p(token | text, the tokens before it) draws a picture as a language model draws a
sentence. One that learned p(hidden tokens | text, the known ones) fills them in, the surest first.
"""
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from . import checks
from .nets.token_transformers import MaskGIT
from .rng import uniform


@checks.typed
def chances(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
            top_p: float | None = None) -> Tensor:
    """Logits (..., K) -> the chances (..., K) to draw each token with.

    temperature: the logits are divided by it; below 1 the likely get likelier, 0 takes the likeliest alone.
    top_k: only the k likeliest (Fan et al. 2018). top_p: only the likeliest that together have the chance
    top_p, at least one (Holtzman et al. 2020).
    """
    checks.floats(logits, "logits")
    if checks.number(temperature, 0, what="temperature") == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    p = (logits.float() / temperature).softmax(dim=-1)
    if top_k is not None:
        least = p.topk(min(checks.whole(top_k, 1, what="top_k"), p.shape[-1])).values[..., -1:]
        p = p * (p >= least)
    if top_p is not None:
        checks.number(top_p, 0, 1, "top_p")
        likeliest, order = p.sort(dim=-1, descending=True)
        before = likeliest.cumsum(dim=-1) - likeliest  # what the likelier ones have together
        kept = before < top_p * p.sum(dim=-1, keepdim=True)
        kept[..., 0] = True
        p = p * torch.zeros_like(kept).scatter(-1, order, kept)
    return p / p.sum(dim=-1, keepdim=True)


@checks.typed
def sample_token(p: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Chances (B, ..., K) -> a token each, (B, ...): where an even number in 0 .. 1 falls among their running
    sums."""
    u = uniform(p.shape[:-1], generator, p.device)
    sums = p.cumsum(dim=-1)
    last = (p > 0).long().cumsum(dim=-1).argmax(dim=-1)  # of those with a chance: rounding may pass it
    return torch.minimum((sums <= (u * sums[..., -1])[..., None]).sum(dim=-1), last)


@checks.typed
@torch.no_grad()
def write(model, text: dict[str, Tensor], null: dict[str, Tensor] | None = None, w: float = 1.0,
          temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
          generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield the tokens so far, (B, 1), (B, 2), ... to (B, model.n), whole numbers.

    model: has `read` and `follow`, as `DALLE` has. text: what it reads, tensors (B, ...) by name. w: guidance
    as in diffusion, null + w (text - null) of the logits (Gafni et al. 2022, Make-A-Scene); null: what it
    reads of the empty text. The others as in `chances`.
    """
    guided = checks.number(w, -math.inf, what="w, the guidance scale,") != 1
    if guided and null is None:
        raise ValueError("w other than 1 needs `null`, what the model reads of the empty text")
    if guided:
        text = {k: torch.cat([v, null[k]]) for k, v in text.items()}
    logits, memory = model.read(**text)
    tokens = []
    for place in range(model.n):
        if guided:
            with_text, without = logits.log_softmax(dim=-1).chunk(2)
            logits = torch.lerp(without, with_text, w)
        tokens.append(sample_token(chances(logits, temperature, top_k, top_p), generator))
        yield torch.stack(tokens, dim=1)
        if place < model.n - 1:
            logits = model.follow(tokens[-1].repeat(1 + guided), place, memory)


@checks.typed
@torch.no_grad()
def unmask(model: MaskGIT, text: dict[str, Tensor], null: dict[str, Tensor] | None = None, w: float = 1.0,
           temperature: float = 1.0, steps: int = 12, doubt: float = 4.5,
           generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield the tokens so far, (B, n), after each of `steps` steps (Chang et al. 2022, section 3.2); -1
    stands where none is known yet.

    In each step all that is hidden is drawn, and the surest stay: after step i of n a share cos(pi i / 2 n)
    is hidden still. How sure: the logarithm of a token's chance, plus Gumbel noise times `doubt`, which falls
    to 0 with the steps; without it the pictures are all alike. w, null as in `write`.
    """
    checks.counts(steps=steps)
    checks.number(doubt, 0, what="doubt")
    if w != 1 and null is None:
        raise ValueError("w other than 1 needs `null`, what the model reads of the empty text")
    n = len(text["text"])
    tokens = torch.full((n, model.n), -1, device=text["text"].device)
    for i in range(1, steps + 1):
        hidden = tokens < 0
        ids = torch.where(hidden, model.mask, tokens + model.offset)
        logits = model.logits(ids, **text).log_softmax(dim=-1)
        if w != 1:
            logits = torch.lerp(model.logits(ids, **null).log_softmax(dim=-1), logits, w)
        p = chances(logits, temperature)
        drawn = sample_token(p, generator)
        sure = p.gather(2, drawn[:, :, None])[:, :, 0].log()
        even = uniform(sure.shape, generator, sure.device).clamp(1e-9, 1 - 1e-7)
        sure = sure - doubt * (1 - i / steps) * (-even.log()).log()
        sure = sure.masked_fill(~hidden, torch.inf)  # what is known stays
        known = model.n - int(model.n * math.cos(math.pi / 2 * i / steps)) if i < steps else model.n
        keep = torch.zeros_like(hidden).scatter(1, sure.topk(known, dim=1).indices, True)
        tokens = torch.where(keep & hidden, drawn, tokens)
        yield tokens
