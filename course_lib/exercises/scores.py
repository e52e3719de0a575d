"""Exercises of notebook 06, FID and CLIP: Gaussians and their distances, KID, CLIP's loss, search."""
import torch

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
    parts=("mean", "covariance"),
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
    values, vectors = torch.linalg.eigh(S1)
    half = vectors * values.clamp(min=0).sqrt() @ vectors.T  # S1^1/2
    roots = torch.linalg.eigvalsh(half @ S2 @ half).clamp(min=0).sqrt()  # S1^1/2 S2 S1^1/2 has those of S1 S2
    return ((m1 - m2) ** 2).sum() + S1.trace() + S2.trace() - 2 * roots.sum()


# ---- kl_gauss ---------------------------------------------------------------------------------

def _kl(inverse=torch.linalg.inv, trace=lambda P, S1: (P @ S1).trace(), means=lambda m, P, S1: m @ P @ m,
        d=len, log=lambda A, B: torch.logdet(B) - torch.logdet(A), half=0.5):
    def kl(m1, S1, m2, S2):
        P = inverse(S2)
        return half * (trace(P, S1) + means(m2 - m1, P, S1) - d(m1) + log(S1, S2))
    return kl


@problem(
    works="zero for equals, positive else, and another number the other way round.",
    hints=("KL(N1 || N2) is an average over N1, so lengths are measured with the inverse of S2.",
           "1/2 [tr(S2^-1 S1) + (m2 - m1)^T S2^-1 (m2 - m1) - d + ln(det S2 / det S1)]",
           "P = torch.linalg.inv(S2); return 0.5 * ((P @ S1).trace() + ... - len(m1) + ...)"),
    cases=_pairs_of_gaussians,
    mistakes=(
        (lambda m1, S1, m2, S2: _kl()(m2, S2, m1, S1),
         "that is KL(N2 || N1): the divergence is directed, and the average is over the first."),
        (_kl(log=lambda A, B: torch.logdet(A) - torch.logdet(B)),
         "the log ratio is upside down: ln(det S2 / det S1)."),
        (_kl(log=lambda A, B: 0.0), "the log ratio of the determinants is missing."),
        (_kl(log=lambda A, B: torch.det(B) / torch.det(A)),
         "take the logarithm of the ratio of the determinants."),
        (_kl(d=lambda m: 0), "the - d is missing: for equal Gaussians the result must be 0."),
        (_kl(d=lambda m: 1), "subtract d, the number of dimensions, not 1: for equals the result must be 0."),
        (_kl(half=1.0), "the factor 1/2 is missing."),
        (_kl(means=lambda m, P, S1: 0.0), "the distance of the means is missing."),
        (_kl(means=lambda m, P, S1: m @ m),
         "the distance of the means is measured in the widths of N2: S2^-1 is missing between them."),
        (_kl(means=lambda m, P, S1: m @ torch.linalg.inv(S1) @ m),
         "the distance of the means is measured with the inverse of S2, not of S1."),
        (_kl(inverse=lambda S: 1 / S), "S2^-1 is the inverse of a matrix, not 1 / S2 number by number."),
        (_kl(trace=lambda P, S1: (P * S1).trace()), "tr(S2^-1 S1) takes a product of matrices, @, not *."),
        (_kl(trace=lambda P, S1: S1.trace()), "S2^-1 is missing in the trace, tr(S2^-1 S1)."),
        (_kl(half=-0.5), "a KL divergence is never negative: the sign is wrong."),
    ),
)
def kl_gauss(m1, S1, m2, S2):
    """KL(N(m1, S1) || N(m2, S2)) in nats.

    m1, m2: (d,). S1, S2: (d, d), positive definite. Returns a tensor of one number, ().
    """
    P, m = torch.linalg.inv(S2), m2 - m1
    return 0.5 * ((P @ S1).trace() + m @ P @ m - len(m) + torch.logdet(S2) - torch.logdet(S1))


# ---- kid --------------------------------------------------------------------------------------

def _others(K):
    """The mean without the diagonal."""
    return K[~torch.eye(*K.shape, dtype=torch.bool)].mean()


def _kid(within=_others, between=torch.mean, scale=lambda d: d, power=3, one=1.0, end=lambda v: v, cross=2.0):
    def f(x, y):
        k = lambda a, b: (a @ b.T / scale(x.shape[1]) + one) ** power
        return end(within(k(x, x)) + within(k(y, y)) - cross * between(k(x, y)))
    return f


def _sum_of_others(K):
    return K.sum() - K.diagonal().sum()


def _unbiased(f):
    """Other estimates are right on average, such as means over blocks: compared 300 times."""
    pairs = [(normal(64, 2, seed=k), normal(64, 2, seed=k + 1000) + 0.5) for k in range(300)]
    exact = torch.stack([kid.reference(x, y) for x, y in pairs])
    gap = torch.stack([f(x, y).double().reshape(()) for x, y in pairs]) - exact
    error = gap.std() / len(gap) ** 0.5
    return gap.mean().abs() < 3 * error and error < 0.05 * exact.mean()


@problem(
    works="0 on average for equal distributions, whatever the number of samples: no bias.",
    hints=("Three averages of a kernel k: within x, within y, and between them.",
           "k(a, b) = (a.b / d + 1)^3. Within a set, leave out the pairs of a sample with itself.",
           "k = (x @ x.T / d + 1) ** 3; within = (k.sum() - k.diagonal().sum()) / (n * (n - 1))"),
    cases=lambda: [(normal(6, 3), normal(5, 3, seed=1) + 1),
                   (normal(4, 2, seed=2), normal(4, 2, seed=2) + 0.1)],  # the second is negative
    accepts=_unbiased,
    mistakes=(
        (_kid(within=torch.mean), "the diagonal is still there: a sample resembles itself, a bias upwards."),
        (_kid(within=lambda K: _sum_of_others(K) / len(K) ** 2),
         "the diagonal is left out of the sum, but counted: n (n - 1) pairs remain, not n^2."),
        (_kid(between=_others), _kid(between=lambda K: _sum_of_others(K) / (len(K) * (len(K) - 1))),
         lambda x, y: _kid(between=lambda K: K[~torch.eye(len(K), dtype=torch.bool)].mean())(x, y),
         "between the sets no sample meets itself: leave out no pair there, not even if N = M."),
        (_kid(scale=lambda d: 1), "the scalar product is not divided by d."),
        (_kid(scale=lambda d: d**0.5), "the scalar product is divided by d, not by its root."),
        (_kid(end=lambda v: v.clamp(min=0)), _kid(end=torch.abs),
         "a negative value is no error: cutting it off makes the average positive, a bias."),
        (_kid(end=torch.sqrt), "no root: KID is the squared discrepancy."),
        (_kid(power=2), "the kernel is cubic."),
        (_kid(one=0.0), "the + 1 in the kernel is missing."),
        (_kid(cross=1.0), "the average between the sets counts twice: equal sets must cancel."),
        (_kid(cross=0.0), "the average between the sets is missing."),
        (_kid(cross=-2.0), "the average between the sets is subtracted."),
    ),
)
def kid(x, y):
    """Kernel distance with k(a, b) = (a.b / d + 1)^3, the unbiased estimate.

    x: (N, d), y: (M, d). Returns mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x' and y' other
    samples than x and y; a tensor of one number, ().
    """
    def kernel(a, b):
        return (a @ b.T / x.shape[1] + 1) ** 3

    def within(z):
        K, n = kernel(z, z), len(z)
        return (K.sum() - K.diagonal().sum()) / (n * (n - 1))  # a sample never meets itself

    return within(x) + within(y) - 2 * kernel(x, y).mean()
