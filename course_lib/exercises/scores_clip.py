"""Exercises of notebook 06, CLIP: its loss, and search by text."""
import torch
from torch.nn import functional as F

from . import normal, problem

# ---- clip_loss --------------------------------------------------------------------------------

def _clip(normal_=lambda v: F.normalize(v, dim=1), times=lambda logits, s: s * logits,
          rows=True, columns=True, shift=0, soft=False, join=lambda both: sum(both) / len(both), over="mean"):
    def f(pictures, texts, scale):
        logits = times(normal_(pictures) @ normal_(texts).T, scale)
        target = (torch.arange(len(logits)) + shift) % len(logits)
        ce = lambda z: F.cross_entropy(z.softmax(1) if soft else z, target, reduction=over)
        both = [ce(logits)] * rows + [ce(logits.T)] * columns
        return join(both)
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
        (_clip(join=sum), "the two directions are summed: take their mean, divide by 2."),
        (_clip(over="sum"), "the loss is a mean over the N pairs, not their sum."),
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
    logits = scale * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    partner = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


# ---- recall_at_k ------------------------------------------------------------------------------

def _rankings():
    sim = normal(40, 40) + 1.5 * torch.eye(40)
    labels = 7 * torch.arange(40) % 40  # the label of a text is not its number
    labels[:8] = labels[8:16]  # eight texts say the same as another one
    sim[2, 10] = sim[2].max() + 1  # picture 2 likes text 10, which says the same as its own
    return [(sim, labels, 1), (sim.T.contiguous(), labels, 3),
            (sim + normal(40, 40, seed=3), torch.arange(40), 4)]


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
        (_recall(hit=lambda found, labels: (found == labels[:, None]).any(1)),
         "found holds the numbers of texts, not their labels: compare labels[found] with the picture's."),
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
    found = sim.topk(k, dim=1).indices  # (N, k), numbers of texts
    return (labels[found] == labels[:, None]).any(dim=1).float().mean()
