"""Exercises of notebook 07, tokens: one sequence of words and picture, the draw of a token, a codebook."""
import functools
import math

import torch
from torch.nn import functional as F

from ..autoregressive import chances
from . import normal, problem

# ---- joint_sequence ---------------------------------------------------------------------------

def _texts_and_pictures():
    text, picture = torch.tensor([[3, 5, 0], [1, 11, 4]]), torch.tensor([[5, 0, 15, 7], [2, 2, 9, 3]])
    return [(text, picture, 12), (text[:, [0, 2]], picture[1:].repeat(2, 1), 12), (text, picture, 20)]


def _sequence(first=lambda text, V: text, then=lambda picture, text, V: picture + V,
              inputs=lambda s: s[:, :-1], targets=lambda s: s[:, 1:], step=1):
    def f(text, picture, V):
        s = torch.cat((first(text, V), then(picture, text, V))[::step], dim=1)
        return inputs(s), targets(s)
    return f


def _consistent(f):
    """Other ids are right as well, if each of them means the same word or token in every batch."""
    pairs = set()
    for text, picture in ((torch.arange(12)[None], torch.arange(16)[None]), (torch.tensor([[2, 1]]),) * 2):
        inputs, targets = f(text, picture, 12)
        if not torch.equal(inputs[:, 1:], targets[:, :-1]):
            return False
        ids = torch.cat([inputs[:, :1], targets], dim=1)[0].tolist()
        means = [("word", i) for i in text[0].tolist()] + [("token", i) for i in picture[0].tolist()]
        pairs |= set(zip(ids, means, strict=True))
    ids = {i for i, _ in pairs}
    return len(pairs) == len(ids) == 12 + 16 and min(ids) >= 0


@problem(
    works="one sentence of words and picture: at each place the target is what comes next.",
    hints=("Word 5 and token 5 need different ids. Which ids do the words leave free?",
           "Join the words and the tokens + V along dim=1. At each place, what is to be predicted?",
           "s = torch.cat([text, picture + V], dim=1); return s[:, :-1], s[:, ...]"),
    cases=_texts_and_pictures,
    parts=("inputs", "targets"),
    accepts=_consistent,
    mistakes=(
        (_sequence(then=lambda p, text, V: p), _sequence(lambda text, V: text + V),
         "no offset between the two: word 5 and patch 5 collide, one id for two things."),
        (_sequence(then=lambda p, text, V: p + text.shape[1]),
         "the offset is the length of the text: take V, the number of words that there are."),
        (_sequence(then=lambda p, text, V: p + text.max() + 1),
         lambda text, picture, V: _sequence(lambda t, V: t + picture.max() + 1, lambda p, t, V: p)(
             text, picture, V),
         "the offset depends on the batch: an id must mean the same in every batch, so add V."),
        (_sequence(then=lambda p, text, V: p + V - 1), _sequence(then=lambda p, text, V: p + V + 1),
         "off by one: words have the ids 0 .. V - 1, so V is the first free one."),
        (_sequence(targets=lambda s: s[:, :-1]), _sequence(inputs=lambda s: s[:, 1:]),
         _sequence(inputs=lambda s: s, targets=lambda s: s),
         "the targets are not shifted: the network copies its input. The target is the next token."),
        (_sequence(inputs=lambda s: s[:, 1:], targets=lambda s: s[:, :-1]),
         "shifted the wrong way: the target is the next token, here it is the one before."),
        (_sequence(inputs=lambda s: s, targets=lambda s: s.roll(-1, 1)),
         "after the last token nothing comes, and roll puts the first word there: leave that place out."),
        (lambda *args: (_sequence(inputs=lambda s: s)(*args)[0], ...),
         "one input too many: the last token is only a target."),
        (_sequence(step=-1), _sequence(then=lambda p, text, V: p, step=-1),
         "the picture comes first: it would be drawn before the text is read."),
        (lambda text, picture, V: (..., picture + V),
         "the words are targets, too: DALL-E learns to predict the whole sequence."),
    ),
)
def joint_sequence(text, picture, V):
    """One sequence of words and picture tokens, as a network learns it: inputs, and what comes next.

    text: (B, L), words 0 .. V - 1. picture: (B, n), tokens 0, 1, ..., which get the ids V, V + 1, ...
    Returns (inputs, targets), whole numbers (B, L + n - 1) each: targets[:, i] follows inputs[:, i].
    """
    sequence = torch.cat([text, picture + V], dim=1)
    return sequence[:, :-1], sequence[:, 1:]


# ---- sample_token: any way to draw is right, so it is judged in distribution ----------------------

# Four words, one of them very likely, and five tokens: first 4, 7 and 6 are the likeliest, then 8, 5 and 6.
_LOGITS = torch.tensor([[-1.0, 0.5, 1.0, 3.0, 2.0, 0.9, 1.2, 1.6, 0.2],
                        [-1.0, 0.5, 1.0, 3.0, 0.2, 1.6, 1.2, 0.9, 2.0]])
_ALLOWED = torch.arange(9) > 3


def _draw_case(n, temperature=0.5, seed=0):
    """n rows with the first logits, n with the second ones."""
    gen = torch.Generator().manual_seed(seed)
    return _LOGITS.repeat_interleave(n, dim=0), temperature, 3, _ALLOWED.clone(), gen


@functools.lru_cache(maxsize=8)
def _drawn(f, temperature=0.5, seed=0, run=0):
    """2 x 3000 tokens, computed once for each seed and run: all rules look at the same ones."""
    return f(*_draw_case(3000, temperature, seed)).long()


def _first(f):
    """The set of those that were drawn for the first logits."""
    return set(_drawn(f)[:3000].tolist())


def _drawn_with(f, p, temperature=0.5):
    """Whether the tokens were drawn with the chances p (2, 9): uncertain by 0.009."""
    shares = F.one_hot(_drawn(f, temperature), 9).float().view(2, 3000, 9).mean(dim=1)
    return (shares - p).abs().max() < 0.04


def _p(temperature, allowed=_ALLOWED):
    return chances(_LOGITS.masked_fill(~allowed, -math.inf), temperature, top_k=3)


_DRAW_RULES = (
    (lambda f: f(*_draw_case(2)).shape == (4,), "return one id for each row, (B,)."),
    (lambda f: not torch.equal(_drawn(f), _p(1.0).argmax(1).repeat_interleave(3000)),
     "it always takes the likeliest (argmax): a draw also takes the others, each with its chance."),
    (lambda f: torch.equal(_drawn(f), _drawn(f, run=1)),
     "two runs with the same seed differ: draw with generator=gen."),
    (lambda f: len(_first(f)) > 1, "one draw for the whole batch: each row needs its own."),
    (lambda f: not torch.equal(_drawn(f), _drawn(f, seed=1)),
     "the seed of gen changes nothing: draw with generator=gen."),
    (lambda f: _first(f) not in ({0, 1, 2}, {0, 2, 3}),
     "that is the place among those that were chosen, not the id: look up which id stands there."),
    (lambda f: not (_first(f) > {4, 6, 7} and _first(f) - {4, 6, 7} in ({0}, {8}, {9})),
     "after the cut the chances sum to less than 1, and the rest falls to one id: divide by their sum."),
    (lambda f: _first(f) >= {4, 6, 7} or not _first(f) <= {4, 6, 7},
     "the cut comes before the mask, and fewer than k are left: take the k likeliest of the allowed."),
    (lambda f: _drawn(f).min() > 3,
     "words are drawn in a picture's place: where allowed is False, the logit must be -inf."),
    (lambda f: _first(f) <= {4, 6, 7},
     "tokens beyond the k likeliest are drawn: they need a logit of -inf (0 is no silence, e^0 = 1)."),
    (lambda f: not _drawn_with(f, (_p(1.0) > 0) / 3), "the k are drawn alike: softmax gives their chances."),
    (lambda f: not _drawn_with(f, _p(2.0)),
     "it multiplies by the temperature: divide, so that a low one makes the likely likelier."),
    (lambda f: not _drawn_with(f, _p(1.0)),
     "the temperature has no effect: divide the logits by it, before the softmax."),
    (lambda f: _drawn_with(f, _p(0.5)) and _drawn_with(f, _p(2.0), 2.0),
     "the chances are off: they are softmax(logits / temperature) over the k likeliest of the allowed."),
)


@problem(
    works="a die with k sides, weighted by the network: this writes a picture, token by token.",
    hints=("In this order: hide what is not allowed, divide by the temperature, keep k, softmax, draw.",
           "masked_fill(~allowed, -inf) and topk(k) leave k logits a row; their softmax sums to 1.",
           "best = z.topk(k); i = torch.multinomial(best.values.softmax(-1), 1, generator=gen); "
           "return best.indices.gather(1, ...)[:, 0]"),
    cases=lambda: [_draw_case(2)],
    limits=_DRAW_RULES,
    exact=False,
)
def sample_token(logits, temperature, k, allowed, gen):
    """Draw an id for each row, among the k likeliest of those that are allowed.

    logits: (B, N). temperature: a number above 0; below 1 makes the likely likelier. allowed: (N,), True
    where an id may stand here, such as a picture's token and no word. gen: a torch.Generator (CPU).
    Returns (B,), whole numbers: each id with a chance proportional to e^(logit / temperature).
    """
    best = logits.masked_fill(~allowed, -math.inf).topk(k)  # values and ids, (B, k)
    p = (best.values / temperature).softmax(dim=1)
    return best.indices.gather(1, torch.multinomial(p, 1, generator=gen))[:, 0]


# ---- quantise ---------------------------------------------------------------------------------

def _codes():
    return [(normal(2, 12, 4), normal(12, 4, seed=1) * torch.linspace(0.3, 2, 12)[:, None]),
            (2 * normal(1, 30, 3, seed=2), normal(5, 3, seed=3) + 0.5)]


def _look_up(distance, through=lambda z, e: e):
    def f(z, codebook):
        tokens = distance(z, codebook).argmin(dim=-1)
        return tokens, through(z, codebook[tokens])
    return f


def _gradient(f):
    """That of a weighted sum of z_q for z, divided by the weights; None where there is none."""
    z, codebook = _codes()[0]
    z_q, weights = f(z.requires_grad_(), codebook)[1], normal(*z.shape, seed=7)
    return torch.autograd.grad((z_q * weights).sum(), z)[0] / weights if z_q.requires_grad else None


@problem(
    works="each vector becomes a token, its nearest entry, and the gradient goes straight through.",
    hints=("Which entry of the codebook is nearest to z? torch.cdist, or |z|^2 - 2 z.e + |e|^2.",
           "tokens = the argmin over the entries; then look them up, codebook[tokens].",
           "e = codebook[tokens]; return tokens, z + (e - z)...."),
    cases=_codes,
    parts=("tokens", "z_q"),
    mistakes=(
        (_look_up(lambda z, e: -torch.cdist(z, e[None])), "that is the farthest entry: take the nearest."),
        (_look_up(lambda z, e: -(z @ e.T)),
         "a dot product is not a distance: |e|^2 is missing, and long entries win."),
        (_look_up(lambda z, e: -(F.normalize(z, dim=-1) @ F.normalize(e, dim=-1).T)),
         _look_up(lambda z, e: -(z @ F.normalize(e, dim=-1).T)),
         "that compares directions only: the nearest entry, if all are equally long, and here they are not."),
        (_look_up(lambda z, e: (e**2).sum(1) - z @ e.T), "the factor 2 is missing: |e|^2 - 2 z.e."),
        (_look_up(lambda z, e: (e**2).sum(1) + 2 * z @ e.T),
         "the sign of the product is wrong: |e|^2 - 2 z.e."),
        (_look_up(lambda z, e: (z[..., None, :] - e).abs().sum(-1)),
         "those are sums of absolute differences: a distance squares them."),
        (_look_up(lambda z, e: torch.cdist(z, e[None]).mT),
         _look_up(lambda z, e: torch.cdist(z, e[None]).mT, through=lambda z, e: z + (e - z)),
         "the axes are swapped: for each vector of z, look for the nearest of the K entries."),
        (lambda z, e: (..., z), "z_q is still z: look up the entries, codebook[tokens]."),
    ),
    limits=(
        (lambda f: _gradient(f) is not None and _gradient(f).abs().max() > 0,
         "the numbers are right, but the encoder's gradient is 0: argmin is flat almost everywhere. Let the "
         "gradient go straight through."),
        (lambda f: torch.allclose(_gradient(f), torch.ones(()), atol=1e-3),
         "the gradient must go through unchanged: a factor of 1."),
    ),
)
def quantise(z, codebook):
    """The nearest entries of a codebook, straight through (van den Oord et al. 2017, VQ-VAE).

    z: (B, n, d), what an encoder gives. codebook: (K, d).
    Returns (tokens, z_q): (B, n), the number of the nearest entry; and that entry, like z, with the
    gradient of z itself.
    """
    distance = (codebook**2).sum(dim=1) - 2 * z @ codebook.T  # (B, n, K); |z|^2 is the same for all entries
    tokens = distance.argmin(dim=-1)
    return tokens, z + (codebook[tokens] - z).detach()
