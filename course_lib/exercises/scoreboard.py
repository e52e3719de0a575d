"""Exercises of notebook 08, the scoreboard: a fair score of pictures that were chosen, and its interval."""
import functools
import math

import torch

from . import normal, problem

# ---- fair_score -------------------------------------------------------------------------------

def _marks():
    return [(normal(8, 4), normal(8, 4, seed=1), torch.tensor([0, 0, 0, 0, 0, 3, 3, 5])),
            (normal(5, 3, seed=2), normal(5, 3, seed=3), torch.tensor([4, 1, 4, 4, 1]))]


def _chosen(ranker, judge):
    return judge.gather(1, ranker.argmax(1, keepdim=True))[:, 0]


def _sum_by_concept(score, concept):
    return torch.stack([score[concept == c].mean() for c in concept.unique()]).sum()


def _by_concept(score, concept):
    return _sum_by_concept(score, concept) / len(concept.unique())


def _fair(score=_chosen, end=_by_concept):
    return lambda ranker, judge, concept: end(score(ranker, judge), concept)


def _best_of_concept(ranker, judge, concept):
    of = [concept == c for c in concept.unique()]
    return torch.stack([judge[i].flatten()[ranker[i].argmax()] for i in of]).mean()


@problem(
    works="who chooses does not mark, and each concept counts the same, however many prompts it has.",
    hints=("Each prompt keeps one of its k pictures, by the ranker. Whose mark of it counts?",
           "The judge's, judge.gather(1, best). Take the mean within each concept, then over the concepts.",
           "each = [mark[concept == c].mean() for c in concept.unique()]; return torch.stack(each)...."),
    cases=_marks,
    mistakes=(
        (_fair(lambda r, j: j.amax(1)),
         "the judge chooses for itself: of k marks the highest is too high. The ranker chooses."),
        (_fair(lambda r, j: r.amax(1)),
         "the ranker marks its own choice: that rises with k, whatever the pictures. Take the judge's mark."),
        (_fair(lambda r, j: r.gather(1, j.argmax(1, keepdim=True))[:, 0]),
         "the roles are exchanged: the ranker chooses, the judge marks."),
        (_fair(lambda r, j: j.mean(1)), "nothing is chosen: that is the mean of all k, the score for k = 1."),
        (_fair(lambda r, j: _chosen(-r, j)), "the ranker's worst is kept: take its best."),
        (_fair(lambda r, j: j[:, r.mean(0).argmax()]),
         "one place is chosen for all prompts: each prompt chooses among its own k."),
        (_best_of_concept, "one picture a concept is chosen: each prompt chooses among its own k."),
        (_fair(end=lambda score, concept: score.mean()),
         "every prompt counts the same, so concepts with many prompts decide: take means within concepts."),
        (_fair(end=lambda score, concept: _sum_by_concept(score, concept) / (concept.max() + 1)),
         "concepts without a prompt count as 0: divide by the number of concepts that are there."),
        (_fair(end=_sum_by_concept), "the concepts are added up: take their mean."),
    ),
)
def fair_score(ranker, judge, concept):
    """What a table may say of a system that draws k pictures and keeps the best.

    ranker, judge: (P, k), what two CLIPs say of the k pictures of each prompt. concept: (P,), whole numbers,
    what each prompt is about; not all numbers need occur.
    Returns (): the judge's mark of the ranker's choice; its mean within each concept, then over those.
    """
    mark = judge.gather(1, ranker.argmax(dim=1, keepdim=True))[:, 0]  # (P,)
    return torch.stack([mark[concept == c].mean() for c in concept.unique()]).mean()


# ---- paired_ci: any random numbers, and other ways than the bootstrap, are right --------------------

_C, _M = 60, 8  # concepts, and pictures of each


def _systems():
    """Two systems with a difference of 0.4 +- 1 between concepts, which differ by 3 in how hard they are."""
    effect = normal(_C, 1, seed=1)
    effect = 0.4 + (effect - effect.mean()) / effect.std()
    hard, noise = 3 * normal(_C, 1, seed=2), 0.4 * normal(2, _C, _M, seed=3)
    return hard + effect / 2 + noise[0], hard - effect / 2 + noise[1]


def _ci_case():
    return *_systems(), 2000, torch.Generator().manual_seed(0)


@functools.lru_cache(maxsize=4)
def _interval(f, run=0):
    """(low, high), computed once for each run."""
    return torch.stack([v.double().reshape(()) for v in f(*_ci_case())])


def _error(values):
    """The standard error of the mean of values, of any shape."""
    return values.std().item() / values.numel() ** 0.5


def _half(f, *errors):
    """Half of the width, in units of 1.96 standard errors: the right ones, or others."""
    a, b = _systems()
    return (_interval(f).diff() / 2 / 1.96).item() / math.hypot(*errors or [_error((a - b).mean(1))])


def _unpaired(f):
    """As if the systems had met different concepts, or even different pictures of them."""
    a, b = _systems()
    return any(abs(_half(f, *map(_error, x)) - 1) < 0.1 for x in ((a.mean(1), b.mean(1)), (a, b)))


def _pictures_alone(f):
    """As if pictures were independent: all of them, or those within a concept."""
    d = _systems()[0] - _systems()[1]
    return any(abs(_half(f, _error(x)) - 1) < 0.1 for x in (d, d - d.mean(1, keepdim=True)))


_CI_RULES = (
    (lambda f: _interval(f).isfinite().all(), "the interval holds NaN or infinite numbers."),
    (lambda f: torch.equal(_interval(f), _interval(f, run=1)),
     "two runs with the same seed differ: draw with generator=gen."),
    (lambda f: _interval(f)[0] <= _interval(f)[1], "low lies above high: return (low, high)."),
    (lambda f: (_interval(f).mean() + 0.4).abs() > 0.1, "the sign is wrong: the difference is a - b."),
    (lambda f: not _unpaired(f),
     "unpaired: draw the same concepts for both, else the interval holds how hard the concepts are."),
    (lambda f: not _pictures_alone(f),
     "single pictures are resampled: those of one concept are alike, so draw whole concepts."),
    (lambda f: not 4.5 < _half(f) < 15,
     "that is the spread of the concepts (sd): a mean is surer, its standard error is sd / sqrt(C)."),
    (lambda f: _half(f) > 0.1,
     "divided by sqrt(n): resampling more makes nothing surer. The spread of the n means is the error."),
    (lambda f: not 0.46 < _half(f) < 0.56, "that is one standard error, 68 %: 95 % takes 1.96 of them."),
    (lambda f: not 0.79 < _half(f) < 0.89, "that is 90 %: leave out 2.5 % on each side, not 5 %."),
    (lambda f: 0.92 < _half(f) < 1.08, "the width is wrong: 2.5 % of the means lie on each side."),
    (lambda f: (_interval(f).mean() - 0.4).abs() < 0.1, "the middle must be near the mean of a - b."),
)


@problem(
    works="if 0 lies inside, these concepts cannot tell the two systems apart.",
    hints=("Both systems drew the same concepts: first a difference for each concept, (C,).",
           "Draw C concepts with replacement, n times, and take the mean of each draw.",
           "means = d[torch.randint(C, (n, C), generator=gen)].mean(1); return means.quantile(0.025), ..."),
    cases=lambda: [_ci_case()],
    parts=("low", "high"),
    limits=_CI_RULES,
    exact=False,
)
def paired_ci(a, b, n, gen):
    """The 95 % interval of how much better a is than b, by the bootstrap (Efron 1979).

    a, b: (C, m), scores of m pictures of each of C concepts by two systems; a row is the same concept in
    both. n: how often the concepts are drawn again, with replacement. gen: a torch.Generator (CPU).
    Returns (low, high), () each: between them lie 95 % of the n means of a - b.
    """
    d = (a - b).mean(dim=1)  # (C,), a difference for each concept
    rows = torch.randint(len(d), (n, len(d)), generator=gen)
    means = d[rows].mean(dim=1)  # (n,)
    return means.quantile(0.025), means.quantile(0.975)
