"""Exercises of notebook 06, FID and CLIP: Gaussians and their distances, KID, CLIP's loss, search."""
import torch
from torch.nn import functional as F

from . import normal, problem


def _spd(d, seed):
    a = normal(d, d, seed=seed)
    return a @ a.T / d + 0.3 * torch.eye(d)


def _pairs_of_gaussians():
    return [(normal(3), _spd(3, 1), normal(3, seed=2), _spd(3, 3)),
            (normal(2, seed=4), _spd(2, 5), normal(2, seed=6), _spd(2, 7))]


# ---- gaussian ---------------------------------------------------------------------------------

@problem(
    works="a mean and a matrix that stand for a whole set of features: all that FID ever sees of it.",
    hints=("The mean is over the samples. For the covariance, subtract it first.",
           "With c = x - mean, the covariance is c^T c / (N - 1), (d, d).",
           "return x.mean(0), torch.cov(x....)"),
    cases=lambda: [(normal(7, 3),), (2 * normal(4, 2, seed=1) + 5,)],
    mistakes=(
        (lambda x: (x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)),
         lambda x: (..., torch.cov(x.T, correction=0)),
         "divide by N - 1, not by N: around the sample's own mean, N samples spread too little."),
        (lambda x: (..., x.T @ x / (len(x) - 1)), lambda x: (..., x.T @ x / len(x)),
         "the mean was not subtracted before the products were taken."),
        (lambda x: (..., torch.cov(x)), lambda x: (x.mean(1), ...),
         "the axes are swapped: N samples are rows, d features are columns; the covariance is (d, d)."),
        (lambda x: (..., torch.corrcoef(x.T)), "that is the correlation: do not divide by the spreads."),
        (lambda x: (..., x.var(0)), "these are the variances only: the covariance is a matrix, (d, d)."),
        (lambda x: (..., x.std(0)), "these are standard deviations: the covariance is a matrix, (d, d)."),
    ),
)
def gaussian(x):
    """Mean and covariance of features.

    x: (N, d). Returns (mean (d,), covariance (d, d), divided by N - 1).
    """
    return x.mean(0), torch.cov(x.T)


# ---- frechet ----------------------------------------------------------------------------------

def _root(S):
    values, vectors = torch.linalg.eigh(S)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _cross(S1, S2):
    """tr (S1 S2)^1/2."""
    half = _root(S1)
    return torch.linalg.eigvalsh(half @ S2 @ half).clamp(min=0).sqrt().sum()


def _frechet(mean=lambda a, b: ((a - b) ** 2).sum(), cross=_cross, two=2.0, traces=True, end=lambda v: v):
    return lambda m1, S1, m2, S2: end(mean(m1, m2) + traces * (S1.trace() + S2.trace()) - two * cross(S1, S2))


def _commuting(f):
    """Diagonal covariances, where all roots are simple: (m1 - m2)^2 + (sigma1 - sigma2)^2, summed."""
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])
    found = f(torch.zeros(2), torch.diag(a**2), torch.ones(2), torch.diag(b**2))
    return abs(float(found) - float(2 + ((a - b) ** 2).sum())) < 1e-3


@problem(
    works="the squared distance of two Gaussians: FID, once the features are those of Inception.",
    hints=("Three parts: the means, the two traces, and the trace of the root of the product.",
           "tr (S1 S2)^1/2 is the sum of the roots of the eigenvalues of S1 @ S2.",
           "roots = torch.linalg.eigvals(S1 @ S2).real.clamp(min=0).sqrt(); return ... - 2 * roots.sum()"),
    cases=_pairs_of_gaussians,
    mistakes=(
        (_frechet(end=lambda v: v.clamp(min=0).sqrt()), "no root at the end: FID is the squared distance."),
        (_frechet(mean=lambda a, b: (a - b).norm()), "the distance of the means enters squared."),
        (_frechet(mean=lambda a, b: ((a - b) ** 2).mean()), "sum over the dimensions, do not average."),
        (_frechet(mean=lambda a, b: 0.0), "the means are missing."),
        (_frechet(cross=lambda A, B: (A * B).abs().sqrt().trace()),
         lambda m1, S1, m2, S2: ((m1 - m2) ** 2).sum() + (S1 + S2 - 2 * (S1 @ S2).abs().sqrt()).trace(),
         "that root is taken number by number; (S1 S2)^1/2 is the root of a matrix."),
        (_frechet(cross=lambda A, B: (_root(A) @ _root(B)).trace()),
         "tr(S1^1/2 S2^1/2) is tr (S1 S2)^1/2 only where S1 and S2 commute; else the result is too large."),
        (_frechet(two=0.0), "the term with the product is missing: equal Gaussians must have distance 0."),
        (_frechet(two=1.0), "the last term counts twice: equal Gaussians must have distance 0."),
        (_frechet(traces=False), "tr(S1 + S2) is missing."),
        (_frechet(cross=lambda A, B: torch.linalg.eigvalsh(A @ B).clamp(min=0).sqrt().sum()),
         "eigvalsh reads one triangle only, and S1 S2 is not symmetric: use S1^1/2 S2 S1^1/2, or eigvals."),
        (_frechet(cross=lambda A, B: torch.linalg.eigvals(A @ B).real.clamp(min=0).sum()),
         "take the root of each eigenvalue before you add them."),
    ),
    limits=((_commuting, "diagonal covariances must give the sum of (m1 - m2)^2 + (sigma1 - sigma2)^2."),),
)
def frechet(m1, S1, m2, S2):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), the squared Frechet distance of two Gaussians.

    m1, m2: (d,). S1, S2: (d, d). Returns a tensor of one number, ().
    """
    return _frechet()(m1, S1, m2, S2)


# ---- kl_gauss ---------------------------------------------------------------------------------

def _kl(m1, S1, m2, S2, d=None, log=lambda a, b: torch.logdet(b) - torch.logdet(a), half=0.5, shift=True):
    P = torch.linalg.inv(S2)
    d = len(m1) if d is None else d
    return half * ((P @ S1).trace() + shift * ((m2 - m1) @ P @ (m2 - m1)) - d + log(S1, S2))


@problem(
    works="zero for equals, positive else, and another number the other way round.",
    hints=("KL(N1 || N2) is an average over N1, so lengths are measured with the inverse of S2.",
           "1/2 [tr(S2^-1 S1) + (m2 - m1)^T S2^-1 (m2 - m1) - d + ln(det S2 / det S1)]",
           "P = torch.linalg.inv(S2); return 0.5 * ((P @ S1).trace() + ... - len(m1) + ...)"),
    cases=_pairs_of_gaussians,
    mistakes=(
        (lambda m1, S1, m2, S2: _kl(m2, S2, m1, S1),
         "that is KL(N2 || N1): the divergence is directed, and the average is over the first."),
        (lambda *a: _kl(*a, log=lambda A, B: torch.logdet(A) - torch.logdet(B)),
         "the log ratio is upside down: ln(det S2 / det S1)."),
        (lambda *a: _kl(*a, log=lambda A, B: 0.0), "the log ratio of the determinants is missing."),
        (lambda *a: _kl(*a, d=0), "the - d is missing: for equal Gaussians the result must be 0."),
        (lambda *a: _kl(*a, half=1.0), "the factor 1/2 is missing."),
        (lambda *a: _kl(*a, shift=False), "the distance of the means is missing."),
        (lambda *a: _kl(*a, half=-0.5), "a KL divergence is never negative: the sign is wrong."),
    ),
)
def kl_gauss(m1, S1, m2, S2):
    """KL(N(m1, S1) || N(m2, S2)) in nats.

    m1, m2: (d,). S1, S2: (d, d), positive definite. Returns a tensor of one number, ().
    """
    return _kl(m1, S1, m2, S2)


# ---- kid --------------------------------------------------------------------------------------

def _kid(diagonal=False, scale=lambda d: d, power=3, one=1.0, end=lambda v: v, cross=2.0):
    def f(x, y):
        k = lambda a, b: (a @ b.T / scale(x.shape[1]) + one) ** power
        def within(z):
            m = k(z, z)
            return m.mean() if diagonal else (m.sum() - m.diagonal().sum()) / (len(z) * (len(z) - 1))
        return end(within(x) + within(y) - cross * k(x, y).mean())
    return f


@problem(
    works="0 on average for equal distributions, whatever the number of samples: no bias.",
    hints=("Three averages of a kernel k: within x, within y, and between them.",
           "k(a, b) = (a.b / d + 1)^3. Within a set, leave out the pairs of a sample with itself.",
           "k = (x @ x.T / d + 1) ** 3; within = (k.sum() - k.diagonal().sum()) / (n * (n - 1))"),
    cases=lambda: [(normal(6, 3), normal(5, 3, seed=1) + 1),
                   (normal(4, 2, seed=2), normal(4, 2, seed=2) + 0.1)],  # the second is negative
    mistakes=(
        (_kid(diagonal=True), "the diagonal is still there: a sample resembles itself, a bias upwards."),
        (_kid(scale=lambda d: 1), "the scalar product is not divided by d."),
        (_kid(scale=lambda d: d**0.5), "the scalar product is divided by d, not by its root."),
        (_kid(end=lambda v: v.clamp(min=0)), _kid(end=torch.abs),
         "a negative value is no error: cutting it off makes the average positive, a bias."),
        (_kid(end=torch.sqrt), "no root: KID is the squared discrepancy."),
        (_kid(power=2), "the kernel is cubic."),
        (_kid(one=0.0), "the + 1 in the kernel is missing."),
        (_kid(cross=1.0), "the average between the sets counts twice: equal sets must cancel."),
        (_kid(cross=-2.0), "the average between the sets is subtracted."),
    ),
)
def kid(x, y):
    """Kernel distance with k(a, b) = (a.b / d + 1)^3, the unbiased estimate.

    x: (N, d), y: (M, d). Returns mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x' and y' other
    samples than x and y; a tensor of one number, ().
    """
    return _kid()(x, y)


# ---- clip_loss --------------------------------------------------------------------------------

def _clip(normal_=lambda v: F.normalize(v, dim=1), times=lambda logits, s: s * logits,
          rows=True, columns=True, shift=0, soft=False):
    def f(pictures, texts, scale):
        logits = times(normal_(pictures) @ normal_(texts).T, scale)
        target = (torch.arange(len(logits)) + shift) % len(logits)
        ce = lambda z: F.cross_entropy(z.softmax(1) if soft else z, target)
        both = [ce(logits)] * rows + [ce(logits.T)] * columns
        return sum(both) / len(both)
    return f


@problem(
    works="every picture looks for its text, every text for its picture; chance is ln N.",
    hints=("Normalise, then the matrix of all scalar products is a table of logits. What is the right class?",
           "Row i belongs to column i: cross-entropy with targets 0, 1, ..., N - 1, by rows and by columns.",
           "return (F.cross_entropy(logits, i) + F.cross_entropy(..., i)) / 2"),
    cases=lambda: [(normal(5, 4), normal(5, 4, seed=1), 7.0), (3 * normal(3, 6), normal(3, 6, seed=2), 2.0)],
    mistakes=(
        (_clip(normal_=lambda v: v), "normalise first: else long vectors win, whatever their direction."),
        (_clip(columns=False), "one direction only: texts must find their pictures too."),
        (_clip(rows=False), "one direction only: pictures must find their texts too."),
        (_clip(times=lambda z, s: z / s), "scale is 1 / tau: multiply. The temperature is upside down."),
        (_clip(times=lambda z, s: z), "the scale is missing: cosines in -1 .. 1 are almost equal logits."),
        (_clip(soft=True), "cross_entropy takes logits: the softmax is taken twice."),
        (_clip(shift=1), "the partner of picture i is text i: the targets are shifted."),
        (_clip(normal_=lambda v: F.normalize(v, dim=0)), "normalise each vector, dim=1, not each feature."),
    ),
)
def clip_loss(pictures, texts, scale):
    """CLIP's symmetric contrastive loss, in nats.

    pictures, texts: (N, d), partners in the same row, not normalised. scale: 1 / tau.
    Returns a tensor of one number, (): the mean of both directions.
    """
    return _clip()(pictures, texts, scale)


# ---- recall_at_k ------------------------------------------------------------------------------

def _rankings():
    sim = normal(9, 9)
    sim[2, 4] = sim[2].max() + 1  # picture 2 likes text 4, which says the same as its own
    labels = torch.tensor([0, 1, 2, 3, 2, 5, 1, 7, 8])
    return [(sim, labels, 1), (normal(9, 9, seed=3), labels, 3), (sim.T.contiguous(), torch.arange(9), 4)]


def _recall(rank=lambda sim, k: sim.topk(k, dim=1).indices, hit=None, end=lambda h: h.float().mean()):
    hit = hit or (lambda found, labels: (labels[found] == labels[:, None]).any(1))
    return lambda sim, labels, k: end(hit(rank(sim, k), labels))


@problem(
    works="the share of pictures that find a text which is true of them.",
    hints=("For every picture, a row, look at the k texts with the largest similarity.",
           "A hit is a text with the same label as the picture, not only the one on the diagonal.",
           "found = sim.topk(k, dim=1).indices; hit = (labels[found] == labels[:, None])...."),
    cases=_rankings,
    mistakes=(
        (_recall(hit=lambda found, labels: (found == torch.arange(len(found))[:, None]).any(1)),
         "only the diagonal counts here: a text with the same label is true as well."),
        (_recall(rank=lambda sim, k: sim.T.topk(k, dim=1).indices),
         "the axes are swapped: the texts compete for each picture, along the row."),
        (_recall(rank=lambda sim, k: (-sim).topk(k, dim=1).indices),
         "these are the k lowest: take the largest."),
        (_recall(hit=lambda found, labels: (labels[found] == labels[:, None]).all(1)),
         lambda sim, labels, k: (labels[sim.topk(k, dim=1).indices] == labels[:, None]).float().mean(),
         "one true text among the k is enough for a hit: use any."),
        (_recall(end=lambda h: h.sum()), _recall(end=lambda h: h.float().sum()),
         "that is a count: return the share."),
    ),
)
def recall_at_k(sim, labels, k):
    """Share of the pictures with a true text among their k best.

    sim: (N, N), sim[i, j] the similarity of picture i and text j. labels: (N,); text j is true of
    picture i if labels[i] == labels[j]. Returns a tensor of one number in 0 .. 1, ().
    """
    return _recall()(sim, labels, k)
