"""Exercises of notebook 05, text conditioning: padding, cross-attention, caption dropping, guidance."""
import math

import torch

from . import normal, problem

# ---- pad_mask ---------------------------------------------------------------------------------

def _lengths():
    return [(torch.tensor([3, 1, 5]), 5), (torch.tensor([0, 2]), 4)]  # one text has no token at all


def _mask(compare):
    return lambda lengths, L: compare(torch.arange(L), lengths[:, None])


def _can_mask(f):
    """True and False, or a mask to be added to the scores, with -inf."""
    return all(m.dtype == torch.bool or m.double().isinf().any() for m in (f(*args) for args in _lengths()))


@problem(
    works="True where a word is, and no row without a True.",
    hints=("Number the places 0, 1, ..., L - 1 and compare them with the lengths.",
           "lengths[:, None] has the shape (B, 1), the places (L,): the comparison is (B, L).",
           "return torch.arange(L) < lengths[:, None]....  (what if a length is 0?)"),
    cases=_lengths,
    mistakes=(
        (_mask(lambda place, n: place < n), "a text of length 0 gets a row without any True, and the "
         "softmax of nothing is NaN: keep at least one place."),
        (_mask(lambda place, n: place < n - 1), _mask(lambda place, n: place < (n - 1).clamp(min=1)),
         "off by one: the last word is hidden. Places 0 .. length - 1 are words."),
        (_mask(lambda place, n: place <= n), _mask(lambda place, n: place <= n.clamp(min=1)),
         "off by one: the first place of the padding still shows. Use < instead of <=."),
        (_mask(lambda place, n: place >= n), _mask(lambda place, n: place >= n.clamp(min=1)),
         "inverted: here, as in PyTorch's scaled_dot_product_attention, True means a word."),
    ),
    limits=(
        (_can_mask, "it returns numbers. Attention adds a mask of 0 and 1 to the scores, and padding would "
         "be seen: return True and False, as a comparison gives them."),
    ),
    also=(_mask(lambda place, n: (place < n.clamp(min=1)).float().log()),),
)
def pad_mask(lengths, L):
    """Which places of padded texts hold a word.

    lengths: (B,), words of each text, 0 .. L. L: places of the padded texts. Returns (B, L), True for
    a word and False for padding; at least one True a row (an additive mask of 0 and -inf also passes).
    """
    return torch.arange(L, device=lengths.device) < lengths.clamp(min=1)[:, None]


# ---- cross_attention --------------------------------------------------------------------------

def _looks():
    mask = torch.tensor([[True, True, True, False, False], [True, False, False, False, False]])
    return [(3 * normal(2, 4, 6), 2 * normal(2, 5, 6, seed=1), normal(2, 5, 3, seed=2), mask),
            (normal(1, 7, 8, seed=3), normal(1, 2, 8, seed=4), normal(1, 2, 8, seed=5),
             torch.ones(1, 2, dtype=torch.bool))]


def _attend(scale=lambda q, k: q.shape[-1] ** 0.5, dim=-1, before=lambda s, m: s.masked_fill(~m, -math.inf),
            after=lambda a, m: a):
    def f(q, k, v, mask):
        m = mask[:, None, :]
        return after(before(q @ k.mT / scale(q, k), m).softmax(dim), m) @ v
    return f


def _sums_to_one(f):
    """With v = 1 everywhere, what a pixel receives is the sum of its weights."""
    return all(torch.allclose(f(q, k, torch.ones_like(v), mask), torch.ones(()), atol=1e-4)
               for q, k, v, mask in _looks())


@problem(
    works="each pixel asks, the words answer, and padding stays silent.",
    hints=("Scores first: every query with every key, divided by the root of their width.",
           "Set the scores of padding to -inf, then softmax over the words, the last axis.",
           "s = q @ k.mT / q.shape[-1]**0.5; s = s.masked_fill(~mask[:, None], ...); return ... @ v"),
    cases=_looks,
    mistakes=(
        (_attend(dim=1, before=lambda s, m: s, after=lambda a, m: a * m), _attend(dim=1), _attend(
            dim=1, before=lambda s, m: s.masked_fill(~m, -1e9)),
         "the softmax runs over the pixels: each pixel's weights, over the words, sum to 1."),
        (_attend(scale=lambda q, k: 1), "no 1/sqrt(d): the scores grow with the width, and the softmax "
         "saturates on one word."),
        (_attend(scale=lambda q, k: k.shape[1] ** 0.5), _attend(scale=lambda q, k: q.shape[1] ** 0.5),
         "divide by the root of the width d, the last axis of q and k, not by that of the number of places."),
        (_attend(scale=lambda q, k: q.shape[-1] ** -0.5), "divide by the root of d, do not multiply by it."),
        (_attend(scale=lambda q, k: q.shape[-1]),
         "divide by the root of d, not by d: the look becomes too even."),
        (_attend(before=lambda s, m: s, after=lambda a, m: a * m),
         "masked after the softmax: the rows sum to less than 1. Mask the scores before it."),
        (_attend(before=lambda s, m: s * m),
         "a score of 0 is not silence: e^0 = 1. Padding needs -inf before the softmax."),
        (_attend(before=lambda s, m: s.masked_fill(m, -math.inf)), _attend(
            before=lambda s, m: s.masked_fill(m, -1e9)),
         _attend(before=lambda s, m: s.masked_fill(m, -math.inf), after=lambda a, m: a.nan_to_num()),
         "inverted: it attends to padding. True means a word; fill where mask is False."),
        (_attend(before=lambda s, m: s + m.float()),
         "adding 0 and 1 hides nothing: padding needs -inf, so use masked_fill(~mask, -inf)."),
        (_attend(before=lambda s, m: s), "the mask is not used: the pixels look at padding."),
    ),
    limits=((_sums_to_one, "each pixel's weights must sum to 1 over the words."),),
)
def cross_attention(q, k, v, mask):
    """softmax(q k^T / sqrt(d)) v over the words that are there.

    q: (B, P, d), a query of each pixel. k: (B, L, d), v: (B, L, e), key and value of each word.
    mask: (B, L), True for a word, False for padding. Returns (B, P, e).
    """
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, P, L)
    return scores.masked_fill(~mask[:, None, :], -math.inf).softmax(dim=-1) @ v


# ---- drop_captions ----------------------------------------------------------------------------

def _captions():
    ids = torch.arange(1, 25).view(6, 4)
    null, u = torch.tensor([99, 0, 0, 0]), torch.tensor([0.05, 0.9, 0.3, 0.08, 0.5, 0.99])
    return [(ids, null, 0.1, u), (ids, null, 0.4, u)]


def _drop(gone=lambda u, p: u < p, put=lambda null, ids: null):
    return lambda ids, null, p, u: torch.where(gone(u, p)[:, None], put(null, ids), ids)


def _whole(f):
    """Every caption is either as it was, or the null one."""
    return all(((out == ids).all(1) | (out == null).all(1)).all()
               for ids, null, p, u in _captions() for out in (f(ids, null, p, u),))


@problem(
    works="the network will also learn the pictures as such, from a share p of the batch.",
    hints=("One coin for each sample: u[i] < p, with probability p.",
           "torch.where(condition, a, b) chooses; the condition (B,) must become (B, 1).",
           "return torch.where((u < p)[:, None], ..., ids)"),
    cases=_captions,
    mistakes=(
        (_drop(lambda u, p: (u[0] < p).expand(len(u))), "one coin for the whole batch: u[i] decides "
         "about sample i alone, so that each batch holds both kinds."),
        (_drop(lambda u, p: u >= p), _drop(lambda u, p: u < 1 - p),
         "it keeps with probability p; p is the share to drop, where u < p."),
        (_drop(put=lambda null, ids: torch.zeros_like(ids)),
         "zeros are not the null caption: the empty text has tokens of its own, null."),
        (lambda ids, null, p, u: ids[u >= p],
         "the dropped samples are gone from the batch: keep the picture, replace its caption."),
        (lambda ids, null, p, u: ids, "nothing is dropped: without it there is no unconditional model."),
    ),
    limits=((_whole, "drop whole captions: some row is neither a caption nor the null one."),),
)
def drop_captions(ids, null, p, u):
    """Replace the captions of some samples by the null caption.

    ids: (B, L), tokens of the captions. null: (L,), tokens of the empty text. p: share to drop, 0 .. 1.
    u: (B,), a random number in 0 .. 1 for each sample. Returns (B, L): null where u < p, else ids.
    """
    return torch.where((u < p)[:, None], null, ids)


# ---- cfg --------------------------------------------------------------------------------------

@problem(
    works="w = 0 is no text, w = 1 is the text, and beyond 1 the difference is exaggerated.",
    hints=("Start at the prediction without text and walk towards the one with text.",
           "eps_0 + w (eps_c - eps_0)",
           "return eps_0 + w * (...)"),
    cases=lambda: [(normal(2, 3), normal(2, 3, seed=1), 3.0), (normal(4, seed=2), normal(4, seed=3), 1.0),
                   (normal(4, seed=2), normal(4, seed=3), 0.0)],
    mistakes=(
        (lambda e0, ec, w: ec + w * (e0 - ec), "swapped: w = 1 must return eps_c, and w = 0 eps_0."),
        (lambda e0, ec, w: ec + w * (ec - e0), lambda e0, ec, w: e0 + (1 + w) * (ec - e0),
         "that is the other convention, 1 + w. Ours: w = 1 is the text without guidance."),
        (lambda e0, ec, w: e0 + (w - 1) * (ec - e0), "w = 1 must return eps_c: multiply by w, not by w - 1."),
        (lambda e0, ec, w: e0 + w * (e0 - ec), "the difference is the wrong way round: from eps_0 to eps_c."),
        (lambda e0, ec, w: (e0 + w * ec) / (1 + w), "that averages the two: it can never go beyond eps_c."),
        (lambda e0, ec, w: e0 + w * ec, "subtract eps_0 first: only the difference is multiplied by w."),
        (lambda e0, ec, w: w * (ec - e0), "the start is missing: add eps_0."),
        (lambda e0, ec, w: w * ec, "eps_0 is not used: guidance multiplies the difference of the two."),
    ),
)
def cfg(eps_0, eps_c, w):
    """Classifier-free guidance.

    eps_0, eps_c: predictions without and with the text, of the same shape. w: guidance, 1 = none.
    Returns eps_0 + w (eps_c - eps_0).
    """
    return eps_0 + w * (eps_c - eps_0)
