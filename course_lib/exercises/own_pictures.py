"""Exercises of lab 02d, own pictures: how far a picture is from others, and a yardstick for copying."""
import torch

from . import normal, problem

# ---- distances --------------------------------------------------------------------------------

def _to_each(x, among):
    """The difference of each pair, (B, N, 3 H W)."""
    return (x[:, None] - among[None]).flatten(2)


def _root(d):
    return d.square().mean(2).sqrt()


def _distances(mirror=lambda x: x.flip(3), size=_root, choose=torch.minimum):
    return lambda x, among: choose(size(_to_each(x, among)), size(_to_each(mirror(x), among)))


def _alone(change, size=_root):
    return lambda x, among: size(_to_each(change(x), among))


def _pixelwise(x, among):
    parts = [_to_each(y, among).square() for y in (x, x.flip(3))]
    return torch.minimum(*parts).mean(2).sqrt()


def _pictures():
    x, among = 0.5 * normal(3, 3, 4, 4), 0.5 * normal(5, 3, 4, 4, seed=1)
    among[1], among[2], among[4] = x[1].flip(1), x[0].flip(2), x[2]  # upside down, mirrored, as it is
    return [(x, among), (0.5 * normal(2, 3, 2, 6, seed=2), 0.5 * normal(4, 3, 2, 6, seed=3))]


@problem(
    works="a copy has the distance 0, mirrored or not; so near copies and samples can be judged by it.",
    hints=("Two distances for each pair: from x and from its mirror image. The smaller one counts.",
           "x.flip(3) mirrors (B, 3, H, W). For all pairs at once: torch.cdist of x.flatten(1) and "
           "among.flatten(1) is the root of the sum of squares; you need the root of the mean.",
           "d = [torch.cdist(y.flatten(1), among.flatten(1)) for y in (x, x.flip(3))]; then the smaller one, "
           "divided by the root of the number of numbers in a picture."),
    cases=_pictures,
    mistakes=(
        (_alone(lambda x: x),
         "mirror images are not looked at: a mirrored copy is a copy, too. Mirror one of the two (not both, "
         "which changes nothing), and keep the smaller distance."),
        (_alone(lambda x: x.flip(3)),
         "only the mirror image is looked at: compare the picture as it is, too, and keep the smaller "
         "distance."),
        (_distances(mirror=lambda x: x.flip(2)),
         "flip(2) turns a picture upside down: the columns are axis 3."),
        (_distances(mirror=lambda x: x.flip(1)),
         "flip(1) exchanges red and blue: the columns are axis 3."),
        (_distances(mirror=lambda x: x.flip(2).flip(3)),
         "flipping both axes turns a picture by 180 degrees: a mirror image has its columns reversed, and "
         "only these."),
        (_distances(choose=torch.maximum),
         "the larger of the two distances is kept: whichever is nearer counts."),
        (_distances(choose=lambda a, b: (a + b) / 2),
         "the two distances are averaged: then a copy is not at distance 0. Keep the smaller one."),
        (_distances(size=lambda d: d.square().sum(2).sqrt()),
         "this is the root of the sum: it grows with the number of pixels. Take the mean of the squares, so "
         "that pictures of any size can be compared."),
        (_distances(size=lambda d: d.square().mean(2)),
         "this is the mean of the squares: the root is missing."),
        (_distances(size=lambda d: d.abs().mean(2)),
         "these are mean absolute differences: square, mean, root."),
        (_pixelwise,
         "each pixel chooses for itself, so that half of the picture may be mirrored: first the distance of "
         "the whole picture, then the smaller of the two."),
    ),
)
def distances(x, among):
    """How far each picture is from each of others, as it is or mirrored, whichever is nearer.

    x: (B, 3, H, W), among: (N, 3, H, W), in [-1, 1]. Returns (B, N): for each pair the root of the mean
    squared difference over all 3 H W numbers, of the picture or of its mirror image (columns reversed).
    """
    numbers = x[0].numel()
    as_it_is = torch.cdist(x.flatten(1), among.flatten(1))
    mirrored = torch.cdist(x.flip(3).flatten(1), among.flatten(1))
    return torch.minimum(as_it_is, mirrored) / numbers**0.5


# ---- copying_score ----------------------------------------------------------------------------

def _score(less=lambda a, b: (a < b).double() + (a == b).double() / 2, end=lambda v: v.mean()):
    return lambda of_samples, of_new: end(less(of_samples[:, None], of_new[None]))


def _one_by_one(of_samples, of_new):
    n = min(len(of_samples), len(of_new))
    return (of_samples[:n] < of_new[:n]).double().mean()


def _sorted(of_samples, of_new):
    n = min(len(of_samples), len(of_new))
    return (of_samples.sort().values[:n] < of_new.sort().values[:n]).double().mean()


def _two_sets():
    return [(torch.tensor([0.30, 0.05, 0.20, 0.12, 0.28, 0.16, 0.9]),
             torch.tensor([0.20, 0.35, 0.24, 0.15, 0.24, 0.28])),
            (torch.tensor([0.11, 0.50, 0.26, 0.30]), torch.tensor([0.26, 0.25, 0.10])),
            (0.3 + 0.1 * normal(7), 0.35 + 0.1 * normal(9, seed=1))]


@problem(
    works="at 0.5 samples are as far from the training pictures as new pictures are; near 1 they are copies.",
    hints=("Compare every sample with every new picture: a table of (S, M) comparisons, and its mean.",
           "of_samples[:, None] and of_new[None] make the table. Where the two are equal, count half.",
           "(a < b).float() + 0.5 * (a == b).float(), and the mean over all pairs."),
    cases=_two_sets,
    mistakes=(
        (_score(less=lambda a, b: (a > b).double() + (a == b).double() / 2),
         "the other way round: a sample that lies NEARER to the training pictures than a new picture does "
         "counts 1."),
        (_score(less=lambda a, b: (a < b).double()),
         "equal distances count half, and here they do not count."),
        (_score(less=lambda a, b: (a <= b).double()),
         "equal distances count half, and here they count whole."),
        (_score(end=lambda v: v.sum()),
         "this is the number of pairs: return their share, the mean."),
        (_one_by_one, _sorted,
         "sample i is compared with new picture i only: they are no partners. Every sample is compared with "
         "every new picture."),
        (lambda a, b: (a < b.min()).double().mean(),
         "this is the share of samples nearer than ALL new pictures: one odd new picture decides everything. "
         "Compare all pairs."),
        (lambda a, b: (a < b.mean()).double().mean(), lambda a, b: (a < b.median()).double().mean(),
         "all new pictures are replaced by one number, their mean or median. Compare all pairs."),
        (lambda a, b: (a.mean() < b.mean()).double(), lambda a, b: (a.median() < b.median()).double(),
         "this is one comparison, of two means or medians, and so it is 0 or 1. Compare all pairs."),
        (lambda a, b: b.mean() - a.mean(), lambda a, b: b.median() - a.median(),
         "this is a difference of distances, in their units: return a share of pairs, in 0 .. 1."),
        (lambda a, b: a.mean() / b.mean(), lambda a, b: a.median() / b.median(),
         "this is a ratio of distances: return a share of pairs, in 0 .. 1."),
    ),
)
def copying_score(of_samples, of_new):
    """How often a sample lies nearer to the training pictures than a new picture does.

    of_samples: (S,), of_new: (M,): the distance of each sample, and of each new picture, to its nearest
    training picture. Returns a tensor of one number in 0 .. 1, (): the share of all S M pairs (sample, new
    picture) in which the sample is nearer. A pair with equal distances counts half.
    """
    nearer = of_samples[:, None] < of_new[None]
    equal = of_samples[:, None] == of_new[None]
    return (nearer.to(of_samples) + equal.to(of_samples) / 2).mean()
