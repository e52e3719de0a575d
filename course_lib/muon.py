"""Muon, an optimizer that learns every direction of a matrix alike; the rest is left to AdamW."""
import torch
from torch import Tensor


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for matrices, AdamW for the other parameters.

    A gradient of a matrix mostly points along few directions. Muon keeps its momentum, of Nesterov's kind,
    and sets all singular values of that to about 1, so that every direction is learned: momentum = U S V^T
    becomes U V^T. Times 0.2 sqrt(max(rows, columns)) a step is as long as AdamW's (Liu et al. 2025, eq. 4),
    and one learning rate serves both. A kernel (out, in, h, w) is the matrix (out, in h w). dtype: in which
    U V^T is computed.
    """

    def __init__(self, matrices, others, lr, momentum: float = 0.95, dtype=torch.float32, **adamw):
        super().__init__([{"params": others}, {"params": matrices}], lr, **adamw)
        self.momentum, self.dtype = momentum, dtype

    @torch.no_grad()
    def step(self) -> None:
        """AdamW's step for the others, then one for each matrix."""
        others, matrices = self.param_groups
        self.param_groups = [others]
        super().step()
        self.param_groups = [others, matrices]
        skip = getattr(self, "found_inf", None)  # on a GPU: 1 where this step must change nothing
        for p in matrices["params"]:
            if p.grad is not None:
                state = self.state[p] or {"step": torch.zeros(()), "momentum": torch.zeros_like(p)}
                self.state[p], momentum = state, state["momentum"]  # AdamW asks every state for its step
                grad = p.grad if skip is None else torch.where(skip > 0, momentum, p.grad)
                rate = matrices["lr"] if skip is None else matrices["lr"] * (1 - skip)
                momentum.lerp_(grad, 1 - self.momentum)
                way = orthogonal(grad.lerp(momentum, self.momentum).flatten(1).to(self.dtype))
                p.mul_(1 - rate * matrices["weight_decay"])
                p.sub_(rate * 0.2 * max(way.shape) ** 0.5 * way.view_as(p))


def orthogonal(x: Tensor, steps: int = 5) -> Tensor:
    """A matrix (rows, columns) -> the same with all its singular values in about 0.7 .. 1.2, by steps of
    Newton and Schulz, x <- a x + b x x^T x + c (x x^T)^2 x, with the coefficients of Jordan et al."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T
