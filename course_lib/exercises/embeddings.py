"""Exercises of notebook 07, embeddings: the best of k by CLIP, and the gap between texts and pictures."""
import torch
from torch.nn import functional as F

from . import normal, problem

# ---- best_of_k --------------------------------------------------------------------------------

def _candidates():
    def case(n, k, d, seed):
        lengths = normal(n * k, 1, seed=seed + 2).exp()
        return normal(n * k, d, seed=seed) * lengths, normal(n, d, seed=seed + 1), k
    return [case(12, 4, 6, 0), case(9, 3, 5, 3)]


def _suits(pictures, texts, k):
    """(N, k), cosines."""
    return F.cosine_similarity(pictures, texts.repeat_interleave(k, dim=0), dim=1).view(-1, k)


def _best(suits=_suits, pick=lambda s: s.argmax(1), place=lambda j, k: k * torch.arange(len(j)) + j):
    return lambda pictures, texts, k: place(pick(suits(pictures, texts, k)), k)


def _same_for_all(j, s):
    return j.expand(len(s))


@problem(
    works="DALL-E's last step: of k pictures, CLIP keeps the one that suits its prompt best.",
    hints=("A cosine between each picture and its own prompt: which prompt belongs to picture i?",
           "texts.repeat_interleave(k, dim=0) puts each prompt k times in a row; then .view(N, k).argmax(1).",
           "return k * torch.arange(len(texts)) + cosine.view(-1, k)...."),
    cases=_candidates,
    mistakes=(
        (_best(pick=lambda s: s.argmin(1)), "that is the worst of k: take the highest cosine."),
        (_best(lambda u, v, k: (u * v.repeat_interleave(k, 0)).sum(1).view(-1, k)),
         _best(lambda u, v, k: (u * F.normalize(v, dim=1).repeat_interleave(k, 0)).sum(1).view(-1, k)),
         "the pictures are not normalised: the longest embedding wins, not the best direction."),
        (_best(lambda u, v, k: F.cosine_similarity(u, v.repeat(k, 1), dim=1).view(-1, k)),
         "the prompts are mixed: repeat gives 1, 2, 1, 2, and repeat_interleave 1, 1, 2, 2."),
        (_best(lambda u, v, k: _suits(u, v, k).view(k, -1).T),
         "the prompts are mixed: the k pictures of a prompt stand in a row, so view(N, k), not view(k, N)."),
        (_best(pick=lambda s: s.argmax(), place=lambda j, k: j),
         _best(pick=lambda s: _same_for_all(s.argmax(), s), place=lambda j, k: j),
         _best(pick=lambda s: _same_for_all(s.mean(0).argmax(), s)),
         "one choice for the whole batch: each prompt chooses for itself."),
        (_best(place=lambda j, k: j),
         "that is the place among the k of a prompt: those of prompt i begin at i k, so add i k."),
        (_best(lambda u, v, k: F.normalize(v, dim=1) @ F.normalize(u, dim=1).T, place=lambda j, k: j),
         "a prompt also chooses among the pictures of the others: compare it with its own k only."),
    ),
)
def best_of_k(pictures, texts, k):
    """For each prompt the picture that suits it best, by the cosine of their embeddings.

    pictures: (N k, d), the k pictures of the first prompt, then those of the second, and so on. texts:
    (N, d), the prompts. Neither is normalised.
    Returns (N,), whole numbers: the rows of `pictures` that are kept.
    """
    cosine = F.cosine_similarity(pictures, texts.repeat_interleave(k, dim=0), dim=1)
    return k * torch.arange(len(texts), device=texts.device) + cosine.view(-1, k).argmax(dim=1)


# ---- text_plus_gap ----------------------------------------------------------------------------

def _two_clouds():
    def cloud(n, seed, centre):
        return F.normalize(normal(n, 6, seed=seed) + 2 * normal(6, seed=centre), dim=1)
    return [(cloud(n, 0, texts), cloud(N, 1, pictures), cloud(N, 2, texts))
            for n, N, texts, pictures in ((5, 5, 20, 21), (2, 7, 20, 22))]


def _moved(gap=lambda u, v, asked: (u - v).mean(0), end=lambda v: F.normalize(v, dim=1)):
    return lambda asked, pictures, texts: end(asked + gap(pictures, texts, asked))


@problem(
    works="one step, the same for all texts, to where the pictures lie: what a prior has to beat.",
    hints=("How far, on average, is a picture from its text? That is one vector, (d,).",
           "gap = mean over the pairs of (picture - text). Add it to each text; then the length is not 1.",
           "return F.normalize(texts + (train_pictures - train_texts)...., dim=1)"),
    cases=_two_clouds,
    mistakes=(
        (_moved(lambda u, v, a: (v - u).mean(0)), lambda a, u, v: F.normalize(a - (u - v).mean(0), dim=1),
         "the gap has the wrong sign: it leads from texts to pictures, pictures - texts."),
        (_moved(end=lambda v: v), "not back to unit length: the decoder has only met unit vectors."),
        (_moved(lambda u, v, a: u - v), "a gap for each pair: it is one vector, the mean over all pairs."),
        (_moved(lambda u, v, a: u.mean(0)),
         "the mean of the training texts is not subtracted: the gap is a difference of two means."),
        (_moved(lambda u, v, a: u.mean(0) - a.mean(0)),
         "the gap depends on the texts of the batch: measure it on the training pairs."),
        (_moved(lambda u, v, a: F.normalize((u - v).mean(0), dim=0)),
         "the gap is stretched to length 1: only the sum is brought back to unit length."),
        (_moved(lambda u, v, a: (u - v).mean()), "one number for all d: take the mean over pairs, dim=0."),
        (_moved(end=lambda v: F.normalize(v, dim=0)), "normalise each vector, dim=1, not each feature."),
        (_moved(lambda u, v, a: 0.0), "the text is not moved: add the mean gap."),
    ),
)
def text_plus_gap(texts, train_pictures, train_texts):
    """Text embeddings, moved to where the pictures lie: what a prior has to beat.

    texts: (B, d), prompts. train_pictures, train_texts: (N, d), partners in the same row. All are unit
    vectors. Returns (B, d), unit vectors: the texts plus the mean of (picture - text).
    """
    gap = (train_pictures - train_texts).mean(dim=0)
    return F.normalize(texts + gap, dim=1)
