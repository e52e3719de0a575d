"""What learners write: wrong answers with the diagnosis they must get, unusual right answers.

    @wrong("forward.alpha_bar", "multiply what is kept")     a phrase of the expected diagnosis
    @right("forward.alpha_bar")
"""
import math

import numpy as np
import torch
from torch.nn import functional as F

from course_lib.schedules import DDPM

WRONG, RIGHT = [], []  # (exercise, phrase, function) and (exercise, function)


def wrong(name, phrase):
    return lambda f: WRONG.append((name, phrase, f)) or f


def right(name):
    return lambda f: RIGHT.append((name, f)) or f


# ---- forward.alpha_bar ------------------------------------------------------------------------

@wrong("forward.alpha_bar", "multiply what is kept")
def ab_product_of_betas(betas):
    return torch.cumprod(betas, 0)


@wrong("forward.alpha_bar", "that is a_t")
def ab_root(betas):
    return torch.sqrt(torch.cumprod(1 - betas, 0))


@wrong("forward.alpha_bar", "linearised")
def ab_sum(betas):
    return 1 - torch.cumsum(betas, 0)


@wrong("forward.alpha_bar", "index 0 must be step 1")
def ab_leading_one(betas):
    out = [torch.tensor(1.0)]
    for b in betas:
        out.append(out[-1] * (1 - b))
    return torch.stack(out)


@wrong("forward.alpha_bar", "index 0 must be step 1")
def ab_leading_one_cut(betas):
    return F.pad(torch.cumprod(1 - betas, 0)[:-1], (1, 0), value=1.0)


@wrong("forward.alpha_bar", "1 - abar_t, the variance of the noise")
def ab_noise(betas):
    return 1 - torch.cumprod(1 - betas, 0)


@wrong("forward.alpha_bar", "one number")
def ab_one_number(betas):
    return torch.prod(1 - betas)


@wrong("forward.alpha_bar", "what one step keeps")
def ab_alpha(betas):
    return 1 - betas


@wrong("forward.alpha_bar", "one of its inputs in place")
def ab_in_place(betas):
    for i in range(1, len(betas)):
        betas[i] = betas[i] + betas[i - 1]
    return 1 - betas


@wrong("forward.alpha_bar", "the numbers are not")
def ab_unknown(betas):
    return torch.exp(-3 * torch.cumsum(betas, 0))


@right("forward.alpha_bar")
def ab_logs(betas):
    return torch.exp(torch.cumsum(torch.log1p(-betas), 0))


@right("forward.alpha_bar")
def ab_float64(betas):
    return torch.cumprod(1 - betas.double(), 0)


@right("forward.alpha_bar")
def ab_numpy(betas):
    return np.cumprod(1 - betas.numpy())


@right("forward.alpha_bar")
def ab_loop(betas):
    left, out = 1.0, []
    for b in betas.tolist():
        left *= 1 - b
        out.append(left)
    return torch.tensor(out)


@wrong("forward.alpha_bar", "Multiply the shares")
def ab_exp_of_sum(betas):
    return torch.exp(-torch.cumsum(betas, 0))


@wrong("forward.alpha_bar", "Shares multiply: cumprod")
def ab_sum_of_shares(betas):
    return torch.cumsum(1 - betas, 0)


@wrong("forward.alpha_bar", "computed in float16")
def ab_half(betas):
    return torch.cumprod(1 - betas.half(), 0)


@wrong("forward.alpha_bar", "comma at the end of the return line")
def ab_comma(betas):
    return (torch.cumprod(1 - betas, 0),)


@wrong("forward.alpha_bar", "it returns a generator")
def ab_yield(betas):
    left = 1.0
    for b in betas:
        left = left * (1 - b)
        yield left


@right("forward.alpha_bar")
def ab_list_of_floats(betas):
    return np.cumprod(1 - betas.numpy()).tolist()


@right("forward.alpha_bar")
def ab_list_of_tensors(betas):
    return list(torch.cumprod(1 - betas, 0))


@right("forward.alpha_bar")
def ab_calls_itself(betas):
    if len(betas) == 1:
        return 1 - betas
    half = len(betas) // 2
    first = ab_calls_itself(betas[:half])
    return torch.cat([first, first[-1] * ab_calls_itself(betas[half:])])


@right("forward.alpha_bar")
def ab_with_gradient(betas):
    return torch.cumprod(1 - betas.clone().requires_grad_(), 0)


@right("forward.alpha_bar")
def ab_complex(betas):
    return torch.cumprod((1 - betas).to(torch.complex128), 0)


# ---- forward.q_sample -------------------------------------------------------------------------

def col(v):
    return v.view(-1, 1, 1, 1)


@wrong("forward.q_sample", "silently along the columns")
def q_no_reshape(x0, t, eps, abar):
    return eps * torch.sqrt(1 - abar[t]) + x0 * torch.sqrt(abar[t])


@wrong("forward.q_sample", "meet the channels")
def q_three_axes(x0, t, eps, abar):
    a = abar[t].view(-1, 1, 1)
    return a ** 0.5 * x0 + (1 - a) ** 0.5 * eps


@wrong("forward.q_sample", "abar^2 + (1 - abar)^2")
def q_no_roots(x0, t, eps, abar):
    return col(abar[t]) * x0 + (1 - col(abar[t])) * eps


@wrong("forward.q_sample", "missing on 1 - abar")
def q_no_root_noise(x0, t, eps, abar):
    return col(abar[t]).sqrt() * x0 + (1 - col(abar[t])) * eps


@wrong("forward.q_sample", "missing on abar")
def q_no_root_signal(x0, t, eps, abar):
    return col(abar[t]) * x0 + (1 - col(abar[t])).sqrt() * eps


@wrong("forward.q_sample", "x0 = 0 must return s * eps")
def q_own_eps(x0, t, eps, abar):
    return col(abar[t]).sqrt() * x0 + (1 - col(abar[t])).sqrt() * torch.randn_like(x0)


@wrong("forward.q_sample", "one step, not t steps")
def q_one_step(x0, t, eps, abar):
    betas = 1 - abar[1:] / abar[:-1]
    beta = col(betas[t - 1])
    return (1 - beta).sqrt() * x0 + beta.sqrt() * eps


@wrong("forward.q_sample", "swapped")
def q_swapped(x0, t, eps, abar):
    return (1 - col(abar[t])).sqrt() * x0 + col(abar[t]).sqrt() * eps


@wrong("forward.q_sample", "not shrunk")
def q_only_adds(x0, t, eps, abar):
    return x0 + (1 - col(abar[t])).sqrt() * eps


@wrong("forward.q_sample", "step t is abar[t]")
def q_index(x0, t, eps, abar):
    a = col(abar[t - 1])
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


@wrong("forward.q_sample", "the `return` line missing")
def q_no_return(x0, t, eps, abar):
    x_t = col(abar[t]).sqrt() * x0 + (1 - col(abar[t])).sqrt() * eps  # noqa: F841


@right("forward.q_sample")
def q_sigmoid(x0, t, eps, abar):
    lam = 0.5 * torch.log(abar[t] / (1 - abar[t]))
    return col(torch.sigmoid(2 * lam).sqrt()) * x0 + col(torch.sigmoid(-2 * lam).sqrt()) * eps


@right("forward.q_sample")
def q_einsum(x0, t, eps, abar):
    return (torch.einsum("b,bchw->bchw", abar[t] ** 0.5, x0)
            + torch.einsum("b,bchw->bchw", (1 - abar[t]) ** 0.5, eps))


@right("forward.q_sample")
def q_loop(x0, t, eps, abar):
    return torch.stack([math.sqrt(abar[k]) * x + math.sqrt(1 - abar[k]) * e
                        for x, k, e in zip(x0, t.tolist(), eps, strict=True)])


@wrong("forward.q_sample", "a^2 + s^2 = 1")
def q_sum_to_one(x0, t, eps, abar):
    a = col(abar[t]).sqrt()
    return a * x0 + (1 - a) * eps


@wrong("forward.q_sample", "abar itself stands under the root")
def q_root_of_root(x0, t, eps, abar):
    a = col(abar[t]).sqrt()
    return a * x0 + (1 - a).sqrt() * eps


@wrong("forward.q_sample", "added, not subtracted")
def q_minus(x0, t, eps, abar):
    return col(abar[t]).sqrt() * x0 - (1 - col(abar[t])).sqrt() * eps


@wrong("forward.q_sample", "eps is not used")
def q_seeded_eps(x0, t, eps, abar):
    torch.manual_seed(1)
    return col(abar[t]).sqrt() * x0 + (1 - col(abar[t])).sqrt() * torch.randn_like(x0)


@wrong("forward.q_sample", "some entries of what it returns are not there yet")
def q_list_with_dots(x0, t, eps, abar):
    return [x0[0], ...]


@right("forward.q_sample")
def q_float64(x0, t, eps, abar):
    a = col(abar.double()[t])
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


@right("forward.q_sample")
def q_rows(x0, t, eps, abar):
    return [math.sqrt(abar[k]) * x + math.sqrt(1 - abar[k]) * e for x, k, e in zip(x0, t, eps, strict=True)]


@right("forward.q_sample")
def q_numpy(x0, t, eps, abar):
    a = abar.numpy()[t.numpy()][:, None, None, None]
    return np.sqrt(a) * x0.numpy() + np.sqrt(1 - a) * eps.numpy()


# ---- forward.forward_chain --------------------------------------------------------------------

def chain(step):
    """A chain with step(x, beta, z)."""
    def forward_chain(x0, betas, gen):
        x = x0
        path = [x0]
        for b in betas:
            x = step(x, b, torch.randn(x0.shape, generator=gen))
            path.append(x)
        return torch.stack(path)
    return forward_chain


wrong("forward.forward_chain", "sd at T is above 1")(chain(lambda x, b, z: x + b.sqrt() * z))
wrong("forward.forward_chain", "factor of x_(t-1) is sqrt(1 - beta_t)")(
    chain(lambda x, b, z: (1 - b) * x + b.sqrt() * z))
wrong("forward.forward_chain", "variance beta^2")(chain(lambda x, b, z: (1 - b).sqrt() * x + b * z))


@wrong("forward.forward_chain", "steps must be independent")
def chain_one_z(x0, betas, gen):
    z, path = torch.randn(x0.shape, generator=gen), [x0]
    for b in betas:
        path.append((1 - b).sqrt() * path[-1] + b.sqrt() * z)
    return torch.stack(path)


@wrong("forward.forward_chain", "steps must be independent")
def chain_one_eps(x0, betas, gen):
    ab = torch.cat([torch.ones(1), torch.cumprod(1 - betas, 0)]).view(-1, 1, 1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * torch.randn(x0.shape, generator=gen)


@wrong("forward.forward_chain", "anew from x_0")
def chain_jumps(x0, betas, gen):
    path = [x0]
    for ab in torch.cumprod(1 - betas, 0):
        path.append(ab.sqrt() * x0 + (1 - ab).sqrt() * torch.randn(x0.shape, generator=gen))
    return torch.stack(path)


@wrong("forward.forward_chain", "path[0] is x0")
def chain_without_start(x0, betas, gen):
    path, x = [], x0
    for b in betas:
        x = (1 - b).sqrt() * x + b.sqrt() * torch.randn(x.shape, generator=gen)
        path.append(x)
    return torch.stack(path)


@wrong("forward.forward_chain", "path[0] is x0, still without noise")
def chain_noisy_start(x0, betas, gen):
    path, x = [], x0
    for b in [betas[0], *betas]:
        x = (1 - b).sqrt() * x + b.sqrt() * torch.randn(x.shape, generator=gen)
        path.append(x)
    return torch.stack(path)


@wrong("forward.forward_chain", "generator=gen")
def chain_global_noise(x0, betas, gen):
    path = [x0]
    for b in betas:
        path.append((1 - b).sqrt() * path[-1] + b.sqrt() * torch.randn_like(x0))
    return torch.stack(path)


@wrong("forward.forward_chain", "Use torch.randn.")
def chain_uniform(x0, betas, gen):
    path = [x0]
    for b in betas:
        path.append((1 - b).sqrt() * path[-1] + b.sqrt() * torch.rand(x0.shape, generator=gen))
    return torch.stack(path)


@wrong("forward.forward_chain", "share their noise")
def chain_shared(x0, betas, gen):
    path = [x0]
    for b in betas:
        path.append((1 - b).sqrt() * path[-1] + b.sqrt() * torch.randn(x0.shape[1:], generator=gen))
    return torch.stack(path)


@wrong("forward.forward_chain", "step 1 uses betas[0]")
def chain_backwards(x0, betas, gen):
    return chain(lambda x, b, z: (1 - b).sqrt() * x + b.sqrt() * z)(x0, betas.flip(0), gen)


@wrong("forward.forward_chain", "one of its inputs in place")
def chain_in_place(x0, betas, gen):
    path, x = [x0.clone()], x0
    for b in betas:
        x.mul_((1 - b).sqrt()).add_(b.sqrt() * torch.randn(x.shape, generator=gen))
        path.append(x.clone())
    return torch.stack(path)


@right("forward.forward_chain")
def chain_cumsum(x0, betas, gen):
    ab = torch.cumprod(1 - betas, 0).view(-1, 1, 1, 1, 1)
    z = torch.randn(len(betas), *x0.shape, generator=gen)
    noisy = ab.sqrt() * (x0 + torch.cumsum((betas.view(-1, 1, 1, 1, 1) / ab).sqrt() * z, 0))
    return torch.cat([x0[None], noisy])


@right("forward.forward_chain")
def chain_last_axis(x0, betas, gen):
    z = torch.randn(*x0.shape, len(betas), generator=gen)  # another order of the same numbers
    path = x0.new_empty(len(betas) + 1, *x0.shape)
    path[0] = x0
    for i in range(len(betas)):
        path[i + 1] = torch.sqrt(1 - betas[i]) * path[i] + torch.sqrt(betas[i]) * z[..., i]
    return path


@wrong("forward.forward_chain", "later ones do not")
def chain_slip(x0, betas, gen):
    path, before = [x0], betas[0]
    for b in betas:  # shrinks by the beta of the step before
        path.append((1 - before).sqrt() * path[-1] + b.sqrt() * torch.randn(x0.shape, generator=gen))
        before = b
    return torch.stack(path)


@wrong("forward.forward_chain", "do not have the variances betas")
def chain_slip_noise(x0, betas, gen):
    path, before = [x0], betas[0]
    for b in betas:
        path.append((1 - b).sqrt() * path[-1] + before.sqrt() * torch.randn(x0.shape, generator=gen))
        before = b
    return torch.stack(path)


@wrong("forward.forward_chain", "the wrong size, in the first step already")
def chain_wrong_factor(x0, betas, gen):
    return chain(lambda x, b, z: (1 - b).sqrt() * x + (1 - (1 - b).sqrt()) * z)(x0, betas, gen)


@wrong("forward.forward_chain", "changed in place")
def chain_one_tensor(x0, betas, gen):
    x, path = x0.clone(), []
    path.append(x)
    for b in betas:
        x *= (1 - b).sqrt()
        x += b.sqrt() * torch.randn(x.shape, generator=gen)
        path.append(x)
    return torch.stack(path)


def chain_noise(draw):
    """A chain whose noise is draw(x0, gen)."""
    def forward_chain(x0, betas, gen):
        path = [x0]
        for b in betas:
            path.append((1 - b).sqrt() * path[-1] + b.sqrt() * draw(x0, gen))
        return torch.stack(path)
    return forward_chain


def _shared(*axes):
    """Noise that is the same along some axes."""
    def draw(x0, gen):
        return torch.randn([1 if i in axes else n for i, n in enumerate(x0.shape)], generator=gen)
    return chain_noise(draw)


def _pairs(x0, gen):
    return torch.randn(x0[::2].shape, generator=gen).repeat_interleave(2, 0)


def _mirrored(x0, gen):
    z = torch.randn(x0[..., ::2].shape, generator=gen)
    return torch.cat([z, -z.flip(-1)], -1)


for axes in ((0,), (1,), (2,), (3,), (1, 2), (2, 3), (0, 1, 2), (0, 1, 2, 3)):
    wrong("forward.forward_chain", "share their noise")(_shared(*axes))
wrong("forward.forward_chain", "share their noise")(chain_noise(_pairs))
wrong("forward.forward_chain", "share their noise")(chain_noise(_mirrored))
wrong("forward.forward_chain", "not normal")(
    chain_noise(lambda x0, gen: (2 * torch.rand(x0.shape, generator=gen) - 1) * 3**0.5))
wrong("forward.forward_chain", "not normal")(
    chain_noise(lambda x0, gen: 2.0 * torch.randint(2, x0.shape, generator=gen) - 1))
wrong("forward.forward_chain", "not normal")(
    chain_noise(lambda x0, gen: -1 - (1 - torch.rand(x0.shape, generator=gen)).log()))


@wrong("forward.forward_chain", "steps must be independent")
def chain_every_second_z(x0, betas, gen):
    path, z = [x0], None
    for i, b in enumerate(betas):
        z = torch.randn(x0.shape, generator=gen) if i % 2 == 0 else z
        path.append((1 - b).sqrt() * path[-1] + b.sqrt() * z)
    return torch.stack(path)


@right("forward.forward_chain")
def chain_list(x0, betas, gen):
    path = [x0]
    for b in betas:
        path.append((1 - b).sqrt() * path[-1] + b.sqrt() * torch.randn(x0.shape, generator=gen))
    return path


@right("forward.forward_chain")
def chain_tuple_of_numpy(x0, betas, gen):
    return tuple(x.numpy() for x in chain_list(x0, betas, gen))


@right("forward.forward_chain")
def chain_float64(x0, betas, gen):
    return torch.stack(chain_list(x0.double(), betas.double(), gen))


# ---- forward.cosine_abar ----------------------------------------------------------------------

def f_cos(T, s, power=2):
    t = torch.arange(T + 1)
    return torch.cos((t / T + s) / (1 + s) * math.pi / 2) ** power


@wrong("forward.cosine_abar", "abar_0 must be 1")
def cos_no_f0(T, s=0.008):
    return f_cos(T, s)


@wrong("forward.cosine_abar", "cos, not cos^2")
def cos_no_square(T, s=0.008):
    return f_cos(T, s, 1) / f_cos(T, s, 1)[0]


@wrong("forward.cosine_abar", "beta_T = 1 divides by zero")
def cos_beta_unclipped(T, s=0.008):
    ab = f_cos(T, s) / f_cos(T, s)[0]
    return 1 - ab[1:] / ab[:-1]


@wrong("forward.cosine_abar", "you return beta_t")
def cos_beta(T, s=0.008):
    ab = f_cos(T, s) / f_cos(T, s)[0]
    return torch.clip(1 - ab[1:] / ab[:-1], 0, 0.999)


@wrong("forward.cosine_abar", "step 0 is missing")
def cos_short(T, s=0.008):
    return (f_cos(T, s) / f_cos(T, s)[0])[1:]


@wrong("forward.cosine_abar", "the offset is not used")
def cos_no_offset(T, s=0.008):
    return torch.cos(torch.arange(T + 1) / T * math.pi / 2) ** 2


@wrong("forward.cosine_abar", "rises from 0 to 1")
def cos_upside_down(T, s=0.008):
    return 1 - f_cos(T, s) / f_cos(T, s)[0]


@right("forward.cosine_abar")
def cos_from_clipped_beta(T, s=0.008):
    ab = f_cos(T, s) / f_cos(T, s)[0]
    betas = (1 - ab[1:] / ab[:-1]).clamp(max=0.999)
    return torch.cat([torch.tensor([1.0]), torch.cumprod(1 - betas, 0)])


@right("forward.cosine_abar")
def cos_half_angle(T, s=0.008):
    angle = (torch.linspace(0, 1, T + 1, dtype=torch.float64) + s) / (1 + s) * math.pi
    return (1 + angle.cos()) / (1 + angle[0].cos())


@wrong("forward.cosine_abar", "t / T + offset belongs together")
def cos_brackets(T, s=0.008):
    f = torch.cos(torch.arange(T + 1) / T + s / (1 + s) * math.pi / 2) ** 2
    return f / f[0]


@wrong("forward.cosine_abar", "multiply by pi / 2")
def cos_pi(T, s=0.008):
    f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * math.pi) ** 2
    return f / f[0]


@wrong("forward.cosine_abar", "divide by 1 + offset")
def cos_no_one_plus_s(T, s=0.008):
    f = torch.cos((torch.arange(T + 1) / T + s) * math.pi / 2) ** 2
    return f / f[0]


@right("forward.cosine_abar")
def cos_numpy(T, s=0.008):
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return f / f[0]


@right("forward.cosine_abar")
def cos_list(T, s=0.008):
    f = lambda t: math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2
    return [f(t) / f(0) for t in range(T + 1)]


# ---- forward.q_between ------------------------------------------------------------------------

@wrong("forward.q_between", "as if it were the clean picture")
def between_from_clean(x_r, r, t, eps, abar):
    return col(abar[t]).sqrt() * x_r + (1 - col(abar[t])).sqrt() * eps


@wrong("forward.q_between", "all the noise in x_t")
def between_all_noise(x_r, r, t, eps, abar):
    return (col(abar[t]) / col(abar[r])) ** 0.5 * x_r + torch.sqrt(1 - col(abar[t])) * eps


@wrong("forward.q_between", "since the steps shrink the old noise")
def between_difference_of_variances(x_r, r, t, eps, abar):
    a, b = col(abar[t]), col(abar[r])
    return torch.sqrt(a / b) * x_r + torch.sqrt((1 - a) - (1 - b)) * eps


@wrong("forward.q_between", "since the steps shrink the old noise")
def between_difference_of_sds(x_r, r, t, eps, abar):
    a, b = col(abar[t]), col(abar[r])
    return torch.sqrt(a / b) * x_r + ((1 - a).sqrt() - (1 - b).sqrt()) * eps


@wrong("forward.q_between", "square roots are missing")
def between_no_roots(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r])
    return k * x_r + (1 - k) * eps


@wrong("forward.q_between", "missing on abar_t / abar_r")
def between_no_root_signal(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r])
    return k * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "missing on 1 - abar_t / abar_r")
def between_no_root_noise(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r])
    return k.sqrt() * x_r + (1 - k) * eps


@wrong("forward.q_between", "a^2 + s^2 = 1")
def between_sum_to_one(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r]).sqrt()
    return k * x_r + (1 - k) * eps


@wrong("forward.q_between", "shrunk too much")
def between_shrinks_t_steps(x_r, r, t, eps, abar):
    return col(abar[t]).sqrt() * x_r + (1 - col(abar[t] / abar[r])).sqrt() * eps


@wrong("forward.q_between", "not shrunk by the steps that are still to be made")
def between_only_adds(x_r, r, t, eps, abar):
    return x_r + torch.sqrt(1 - col(abar[t] / abar[r])) * eps


@wrong("forward.q_between", "not shrunk by the steps that are still to be made")
def between_shrinks_r_steps(x_r, r, t, eps, abar):
    return col(abar[r]).sqrt() * x_r + torch.sqrt(1 - col(abar[t] / abar[r])) * eps


@wrong("forward.q_between", "added, not subtracted")
def between_minus(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r])
    return k.sqrt() * x_r - (1 - k).sqrt() * eps


@wrong("forward.q_between", "upside down")
def between_upside_down(x_r, r, t, eps, abar):
    k = col(abar[r] / abar[t])
    return k.sqrt() * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "upside down")
def between_upside_down_signal(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r])
    return x_r / k.sqrt() + (1 - k).sqrt() * eps


@wrong("forward.q_between", "the first t - r steps")
def between_first_steps(x_r, r, t, eps, abar):
    k = col(abar[t - r])
    return k.sqrt() * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "one step too many or too few")
def between_from_r_minus_1(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r - 1])
    return k.sqrt() * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "one step too many or too few")
def between_slice_too_short(x_r, r, t, eps, abar):
    alpha = torch.cat([torch.ones(1), abar[1:] / abar[:-1]])
    k = col(torch.stack([alpha[i + 1:j].prod() for i, j in zip(r, t, strict=True)]))  # leaves out alpha[t]
    return k.sqrt() * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "the last step alone")
def between_last_step(x_r, r, t, eps, abar):
    alpha = col(abar[t] / abar[t - 1])
    return alpha.sqrt() * x_r + (1 - alpha).sqrt() * eps


@wrong("forward.q_between", "meet the last axis")
def between_no_axes(x_r, r, t, eps, abar):
    k = abar[t] / abar[r]
    return k.sqrt() * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "meet the channels")
def between_three_axes(x_r, r, t, eps, abar):
    k = (abar[t] / abar[r])[:, None, None]
    return k.sqrt() * x_r + (1 - k).sqrt() * eps


@wrong("forward.q_between", "draw your own noise")
def between_own_noise(x_r, r, t, eps, abar):
    k = col(abar[t] / abar[r])
    return k.sqrt() * x_r + (1 - k).sqrt() * torch.randn_like(x_r)


@right("forward.q_between")
def between_products(x_r, r, t, eps, abar):
    alpha = [1.0] + [(abar[i] / abar[i - 1]).item() for i in range(1, len(abar))]
    out = []
    for x, i, j, e in zip(x_r, r.tolist(), t.tolist(), eps, strict=True):
        k = math.prod(alpha[i + 1:j + 1])
        out.append(k**0.5 * x + (1 - k) ** 0.5 * e)
    return torch.stack(out)


@right("forward.q_between")
def between_unshrunk(x_r, r, t, eps, abar):
    a, b = col(abar.double()[t]), col(abar.double()[r])
    return a.sqrt() * (x_r / b.sqrt() + (1 / a - 1 / b).sqrt() * eps)  # in x / a the noises only add


@right("forward.q_between")
def between_logs(x_r, r, t, eps, abar):
    k = torch.exp(col(abar.double()[t].log() - abar.double()[r].log()))
    return k.sqrt() * x_r + torch.sqrt(-torch.expm1(k.log())) * eps


@right("forward.q_between")
def between_old_noise(x_r, r, t, eps, abar):
    k = col(abar.double()[t] / abar.double()[r])
    new = (1 - col(abar.double()[t])) - k * (1 - col(abar.double()[r]))  # less what is left of the old
    return k.sqrt() * x_r + new.clamp(min=0).sqrt() * eps


@right("forward.q_between")
def between_numpy(x_r, r, t, eps, abar):
    k = (abar.numpy()[t.numpy()] / abar.numpy()[r.numpy()])[:, None, None, None]
    return np.sqrt(k) * x_r.numpy() + np.sqrt(1 - k) * eps.numpy()


# ---- forward.shifted_abar ---------------------------------------------------------------------

@wrong("forward.shifted_abar", "wrong direction")
def shifted_up(abar, k):
    return k**2 * abar / (k**2 * abar + 1 - abar)


@wrong("forward.shifted_abar", "multiplies it by k^2, not by k")
def shifted_by_k(abar, k):
    return abar / (abar + k * (1 - abar))


@wrong("forward.shifted_abar", "divides the SNR by k^4")
def shifted_by_k4(abar, k):
    return abar / (abar + k**4 * (1 - abar))


@wrong("forward.shifted_abar", "must stay 1")
def shifted_abar_itself(abar, k):
    return abar / k**2


@wrong("forward.shifted_abar", "that is the new SNR")
def shifted_snr(abar, k):
    return abar / (1 - abar) / k**2


@wrong("forward.shifted_abar", "right but for abar = 1")
def shifted_infinite(abar, k):
    snr = abar / (1 - abar) / k**2
    return snr / (1 + snr)


@wrong("forward.shifted_abar", "a power of abar")
def shifted_power(abar, k):
    return abar ** (k * k)


@wrong("forward.shifted_abar", "the variance of the noise")
def shifted_noise(abar, k):
    return 1 - abar / (abar + k**2 * (1 - abar))


@wrong("forward.shifted_abar", "leave out the root")
def shifted_root(abar, k):
    return torch.sqrt(abar / (abar + k**2 * (1 - abar)))


@right("forward.shifted_abar")
def shifted_lambda(abar, k):
    lam = 0.5 * torch.logit(abar) - math.log(k)
    return torch.sigmoid(2 * lam)


@right("forward.shifted_abar")
def shifted_upside_down(abar, k):
    return 1 / (1 + k**2 * (1 / abar - 1))


@right("forward.shifted_abar")
def shifted_loop(abar, k):
    return [1.0 if v == 1 else (v / (1 - v) / k**2) / (1 + v / (1 - v) / k**2) for v in abar.tolist()]


# ---- predictor.ddpm_loss ----------------------------------------------------------------------

def noisy(x0, t, eps, abar):
    return col(abar[t]).sqrt() * x0 + (1 - col(abar[t])).sqrt() * eps


@wrong("predictor.ddpm_loss", "sees the clean picture")
def loss_clean(net, x0, t, eps, abar):
    return F.mse_loss(net(x0, t), eps)


@wrong("predictor.ddpm_loss", "scale varies with t")
def loss_difference(net, x0, t, eps, abar):
    xt = noisy(x0, t, eps, abar)
    return F.mse_loss(net(xt, t), xt - x0)


@wrong("predictor.ddpm_loss", "low noise vanishes")
def loss_scaled(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar), t), (1 - col(abar[t])).sqrt() * eps)


@wrong("predictor.ddpm_loss", "the target is the picture x0")
def loss_x0(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar), t), x0)


@wrong("predictor.ddpm_loss", "scales with the number of pixels")
def loss_sum(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar), t), eps, reduction="sum")


@wrong("predictor.ddpm_loss", "scales with the number of pixels")
def loss_sum_pixels(net, x0, t, eps, abar):
    return (net(noisy(x0, t, eps, abar), t) - eps).square().flatten(1).sum(1).mean()


@wrong("predictor.ddpm_loss", "a loss is one number")
def loss_per_picture(net, x0, t, eps, abar):
    return (net(noisy(x0, t, eps, abar), t) - eps).square().mean((1, 2, 3))


@wrong("predictor.ddpm_loss", "absolute error")
def loss_l1(net, x0, t, eps, abar):
    return F.l1_loss(net(noisy(x0, t, eps, abar), t), eps)


@wrong("predictor.ddpm_loss", "root over the mean")
def loss_rmse(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar), t), eps).sqrt()


@wrong("predictor.ddpm_loss", "square first")
def loss_no_square(net, x0, t, eps, abar):
    return (net(noisy(x0, t, eps, abar), t) - eps).mean()


@wrong("predictor.ddpm_loss", "silently along the columns")
def loss_columns(net, x0, t, eps, abar):
    xt = abar[t] ** 0.5 * x0 + (1 - abar[t]) ** 0.5 * eps
    return F.mse_loss(net(xt, t), eps)


@wrong("predictor.ddpm_loss", "use the eps and t that are given")
def loss_own_eps(net, x0, t, eps, abar):
    eps = torch.randn_like(x0)
    return F.mse_loss(net(noisy(x0, t, eps, abar), t), eps)


@wrong("predictor.ddpm_loss", "no gradient reaches the network")
def loss_item(net, x0, t, eps, abar):
    return torch.tensor(F.mse_loss(net(noisy(x0, t, eps, abar), t), eps).item())


@wrong("predictor.ddpm_loss", "no gradient reaches the network")
def loss_no_grad(net, x0, t, eps, abar):
    with torch.no_grad():
        return F.mse_loss(net(noisy(x0, t, eps, abar), t), eps)


@wrong("predictor.ddpm_loss", "TypeError")
def loss_no_time(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar)), eps)


@right("predictor.ddpm_loss")
def loss_mean_of_means(net, x0, t, eps, abar):
    return (net(noisy(x0, t, eps, abar), t) - eps).square().mean((1, 2, 3)).mean()


@right("predictor.ddpm_loss")
def loss_swapped(net, x0, t, eps, abar):
    return F.mse_loss(eps, net(noisy(x0, t, eps, abar), t))


@right("predictor.ddpm_loss")
def loss_sum_over_count(net, x0, t, eps, abar):
    return torch.norm(eps - net(noisy(x0, t, eps, abar), t)) ** 2 / eps.numel()


@wrong("predictor.ddpm_loss", "both square roots are missing")
def loss_no_roots(net, x0, t, eps, abar):
    a = col(abar[t])
    return F.mse_loss(net(a * x0 + (1 - a) * eps, t), eps)


@wrong("predictor.ddpm_loss", "not a + s = 1")
def loss_sum_to_one(net, x0, t, eps, abar):
    a = col(abar[t]).sqrt()
    return F.mse_loss(net(a * x0 + (1 - a) * eps, t), eps)


@wrong("predictor.ddpm_loss", "step t is abar[t], not abar[t - 1]")
def loss_slip(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t - 1, eps, abar), t), eps)


@wrong("predictor.ddpm_loss", "another number than t")
def loss_told_abar(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar), abar[t]), eps)


@wrong("predictor.ddpm_loss", "0.5 times what is expected")
def loss_half(net, x0, t, eps, abar):
    return 0.5 * F.mse_loss(net(noisy(x0, t, eps, abar), t), eps)


@wrong("predictor.ddpm_loss", "no gradient reaches the network")
def loss_float(net, x0, t, eps, abar):
    return F.mse_loss(net(noisy(x0, t, eps, abar), t), eps).item()


@right("predictor.ddpm_loss")
def loss_float64(net, x0, t, eps, abar):
    x_t = noisy(x0.double(), t, eps.double(), abar.double())
    return ((net(x_t, t) - eps) ** 2).mean()


# ---- predictor.convert ------------------------------------------------------------------------

@wrong("predictor.convert", "points away from the data")
def conv_score_sign(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, a * eps - s * x0, eps / s


@wrong("predictor.convert", "eps has unit variance")
def conv_score_s2(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, a * eps - s * x0, -eps / s ** 2


@wrong("predictor.convert", "divide by s. It grows")
def conv_score_no_s(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, a * eps - s * x0, -eps


@wrong("predictor.convert", "noise enters scaled by s")
def conv_x0_no_s(xt, eps, a, s):
    x0 = (xt - eps) / a
    return x0, a * eps - s * x0, -eps / s


@wrong("predictor.convert", "divide by a at the end")
def conv_x0_no_a(xt, eps, a, s):
    x0 = xt - s * eps
    return x0, a * eps - s * x0, -eps / s


@wrong("predictor.convert", "sign of v is wrong")
def conv_v_sign(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, s * x0 - a * eps, -eps / s


@wrong("predictor.convert", "sign of v is wrong")
def conv_v_plus(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, a * eps + s * x0, -eps / s


@wrong("predictor.convert", "flow matching")
def conv_flow(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, eps - x0, -eps / s


@wrong("predictor.convert", "returns 1 tensors, expected 3")
def conv_only_x0(xt, eps, a, s):
    return (xt - s * eps) / a


@right("predictor.convert")
def conv_through_x0(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, (a * xt - x0) / s, (a * x0 - xt) / s ** 2


@right("predictor.convert")
def conv_list(xt, eps, a, s):
    v = (eps - s * xt) / a  # from eps = s x_t + a v
    return [a * xt - s * v, v, -1 / s * eps]


@wrong("predictor.convert", "takes the clean x0, not x_t")
def conv_v_from_xt(xt, eps, a, s):
    return (xt - s * eps) / a, a * eps - s * xt, -eps / s


@wrong("predictor.convert", "return (x0, v, score)")
def conv_other_order(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0, -eps / s, a * eps - s * x0


@wrong("predictor.convert", "a and s are exchanged.")
def conv_exchanged(xt, eps, a, s):
    x0 = (xt - a * eps) / s
    return x0, s * eps - a * x0, -eps / a


@wrong("predictor.convert", "result 2 of 3 (v) is not there yet; what is there is right")
def conv_v_open(xt, eps, a, s):
    return (xt - s * eps) / a, ..., -eps / s


@wrong("predictor.convert", "result 2 of 3 (v) and result 3 of 3 (score) are not there yet")
def conv_two_open(xt, eps, a, s):
    return (xt - s * eps) / a, ..., ...


@wrong("predictor.convert", "result 1 of 3 (x0) and result 2 of 3 (v) are not there yet")
def conv_only_score(xt, eps, a, s):
    return None, None, -eps / s


@wrong("predictor.convert", "the noise enters scaled by s, so subtract s * eps. And result 3 of 3 (score)")
def conv_wrong_and_open(xt, eps, a, s):
    x0 = (xt - eps) / a
    return x0, a * eps - s * x0, ...


@wrong("predictor.convert", "still a `...` in the line `v = a * eps - s * ...`")
def conv_dots_in_line(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    v = a * eps - s * ...
    return x0, v, -eps / s


@wrong("predictor.convert", "still a `...`: `x0 = ...`")
def conv_x0_open(xt, eps, a, s):
    x0 = ...
    score = -eps / s
    return x0, a * eps - s * x0, score


@wrong("predictor.convert", "the line `raise NotImplementedError` is still to be replaced")
def conv_to_do(xt, eps, a, s):
    x0 = (xt - s * eps) / a  # noqa: F841
    raise NotImplementedError


@right("predictor.convert")
def conv_mixed(xt, eps, a, s):
    x0 = (xt - s * eps) / a
    return x0.numpy(), (a * eps - s * x0).double(), (-eps / s).tolist()


# ---- predictor.time_features ------------------------------------------------------------------

@wrong("predictor.time_features", "distant t collide")
def time_one_frequency(t, dim):
    return torch.stack([t.sin(), t.cos()], 1).repeat(1, dim // 2)


@wrong("predictor.time_features", "distant t collide")
def time_scaled(t, dim):
    return (t[:, None] / 1000).repeat(1, dim)


@wrong("predictor.time_features", "unbounded")
def time_raw(t, dim):
    return t[:, None].float().repeat(1, dim)


@wrong("predictor.time_features", "integer maths")
def time_long_frequencies(t, dim):
    freq = (10_000 ** (-torch.arange(dim // 2) / (dim // 2))).long()
    return torch.cat([(t[:, None] * freq).sin(), (t[:, None] * freq).cos()], 1)


@wrong("predictor.time_features", "integer maths")
def time_floor(t, dim):
    waves = torch.exp(math.log(10_000) * torch.arange(dim // 2) / (dim // 2))
    angle = t[:, None] // (1000 * waves)
    return torch.cat([angle.sin(), angle.cos()], 1)


@wrong("predictor.time_features", "not smooth")
def time_too_fast(t, dim):
    angle = t[:, None] * torch.arange(1, dim // 2 + 1) * 2.4
    return torch.cat([angle.sin(), angle.cos()], 1)


@wrong("predictor.time_features", "the shape must be (B, dim)")
def time_twice_as_wide(t, dim):
    angle = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(dim) / dim)
    return torch.cat([angle.sin(), angle.cos()], 1)


@wrong("predictor.time_features", "always get the same features")
def time_new_frequencies(t, dim):
    angle = t[:, None] * 0.3 * torch.randn(dim // 2)
    return torch.cat([angle.sin(), angle.cos()], 1)


@wrong("predictor.time_features", "depends on the rest of the batch")
def time_normalised(t, dim):
    t = t / t.max() * 1000
    angle = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(dim // 2) / (dim // 2)) + 1.0
    angle = angle * len(t) ** 0.01
    return torch.cat([angle.sin(), angle.cos()], 1)


@right("predictor.time_features")
def time_cos_first(t, dim):
    freq = torch.exp(-math.log(10_000) * torch.arange(dim // 2) / (dim // 2 - 1))
    angle = t[:, None] * freq
    return torch.cat([angle.cos(), angle.sin()], 1)


@right("predictor.time_features")
def time_interleaved(t, dim):
    angle = t[:, None] / 10_000 ** (torch.arange(0, dim, 2) / dim)
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


@right("predictor.time_features")
def time_random_fourier(t, dim):
    gen = torch.Generator().manual_seed(7)
    angle = 2 * math.pi * 16 * torch.randn(dim // 2, generator=gen) * t[:, None] / 1000
    return math.sqrt(2) * torch.cat([angle.cos(), angle.sin()], 1)


@wrong("predictor.time_features", "the waves are too slow")
def time_in_thousandths(t, dim):
    freq = torch.exp(-math.log(10_000) * torch.arange(dim // 2) / (dim // 2))
    angle = t[:, None] / 1000 * freq
    return torch.cat([angle.sin(), angle.cos()], 1)


@right("predictor.time_features")
def time_numpy(t, dim):
    angle = t.numpy()[:, None] / 10_000 ** (np.arange(dim // 2) / (dim // 2))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


@right("predictor.time_features")
def time_bumps(t, dim):
    return torch.exp(-((t[:, None] - torch.linspace(0, 1000, dim)) ** 2) / (2 * 40**2))


# ---- predictor.exact_denoiser -----------------------------------------------------------------

def sq(xt, data):
    return torch.cdist(xt, data, compute_mode="donot_use_mm_for_euclid_dist") ** 2


@wrong("predictor.exact_denoiser", "compare x_t with a * x_i")
def den_no_a(xt, data, a, s):
    return (-sq(xt, data) / (2 * s**2)).softmax(1) @ data


@wrong("predictor.exact_denoiser", "weights per query must sum to 1")
def den_softmax_batch(xt, data, a, s):
    return (-sq(xt, a * data) / (2 * s**2)).softmax(0) @ data


@wrong("predictor.exact_denoiser", "too soft")
def den_s_for_s2(xt, data, a, s):
    return (-sq(xt, a * data) / (2 * s)).softmax(1) @ data


@wrong("predictor.exact_denoiser", "factor 2")
def den_no_two(xt, data, a, s):
    return (-sq(xt, a * data) / s**2).softmax(1) @ data


@wrong("predictor.exact_denoiser", "NaN at low noise")
def den_exp(xt, data, a, s):
    w = (-sq(xt, a * data) / (2 * s**2)).exp()
    return (w[..., None] * data).sum(1) / w.sum(1, keepdim=True)


@wrong("predictor.exact_denoiser", "only the s -> 0 limit")
def den_nearest(xt, data, a, s):
    return data[sq(xt, a * data).argmin(1)]


@wrong("predictor.exact_denoiser", "farthest example")
def den_sign(xt, data, a, s):
    return (sq(xt, a * data) / (2 * s**2)).softmax(1) @ data


@wrong("predictor.exact_denoiser", "must be squared")
def den_distance(xt, data, a, s):
    return (-torch.cdist(xt, a * data) / (2 * s**2)).softmax(1) @ data


@wrong("predictor.exact_denoiser", "noise level is missing")
def den_no_s(xt, data, a, s):
    return (-sq(xt, a * data)).softmax(1) @ data


@wrong("predictor.exact_denoiser", "Average the clean x_i")
def den_scaled(xt, data, a, s):
    return (-sq(xt, a * data) / (2 * s**2)).softmax(1) @ (a * data)


@right("predictor.exact_denoiser")
def den_dropped(xt, data, a, s):  # |x_t|^2 is the same for every x_i, so softmax ignores it
    logits = (a * xt @ data.T - a**2 * (data**2).sum(1) / 2) / s**2
    return logits.softmax(1) @ data


@right("predictor.exact_denoiser")
def den_chunked(xt, data, a, s):
    return torch.cat([(-sq(x, a * data) / (2 * s**2)).softmax(1) @ data for x in xt.split(2)])


@right("predictor.exact_denoiser")
def den_log_sum_exp(xt, data, a, s):
    logits = -((xt[:, None] / a - data) ** 2).sum(-1) * a**2 / (2 * s**2)
    return torch.exp(logits - logits.logsumexp(1, keepdim=True)) @ data


@wrong("predictor.exact_denoiser", "the sum over all d numbers")
def den_mean_distance(xt, data, a, s):
    d2 = ((xt[:, None] - a * data) ** 2).mean(-1)
    return (-d2 / (2 * s**2)).softmax(1) @ data


@wrong("predictor.exact_denoiser", "the weights do not sum to 1")
def den_not_normalised(xt, data, a, s):
    return torch.exp(-sq(xt, a * data) / (2 * s**2)) @ data


@right("predictor.exact_denoiser")
def den_float64(xt, data, a, s):
    data = data.double()
    return (-sq(xt.double(), a * data) / (2 * s**2)).softmax(1) @ data


@right("predictor.exact_denoiser")
def den_one_by_one(xt, data, a, s):
    return [(-((x - a * data) ** 2).sum(1) / (2 * s**2)).softmax(0) @ data for x in xt]


# ---- predictor.last_noise ---------------------------------------------------------------------

def per_picture(v):
    return v.reshape(-1, 1, 1, 1)


@wrong("predictor.last_noise", "xi_hat is too small")
def last_covariance(eps_hat, t, beta, abar):
    return per_picture(beta[t].sqrt()) * eps_hat, beta[t] / (1 - abar[t])


@wrong("predictor.last_noise", "the factor of eps in the mean of Algorithm 2")
def last_algorithm_2(eps_hat, t, beta, abar):
    return per_picture(beta[t] / (1 - abar[t]).sqrt()) * eps_hat, beta[t] / (1 - abar[t])


@wrong("predictor.last_noise", "scaled by c^2")
def last_no_root(eps_hat, t, beta, abar):
    share = beta[t] / (1 - abar[t])
    return per_picture(share) * eps_hat, share


@wrong("predictor.last_noise", "upside down: it is larger than eps_hat")
def last_upside_down(eps_hat, t, beta, abar):
    share = beta[t] / (1 - abar[t])
    return eps_hat / per_picture(share.sqrt()), share


@wrong("predictor.last_noise", "the noise in x_t, not by a_t")
def last_by_signal(eps_hat, t, beta, abar):
    return per_picture((beta[t] / abar[t]).sqrt()) * eps_hat, beta[t] / (1 - abar[t])


@wrong("predictor.last_noise", "xi_hat is eps_hat itself")
def last_is_all(eps_hat, t, beta, abar):
    return eps_hat, beta[t] / (1 - abar[t])


@wrong("predictor.last_noise", "share is the correlation c")
def last_share_root(eps_hat, t, beta, abar):
    c = (beta[t] / (1 - abar[t])) ** 0.5
    return per_picture(c) * eps_hat, c


@wrong("predictor.last_noise", "what stays unexplained")
def last_share_rest(eps_hat, t, beta, abar):
    share = beta[t] / (1 - abar[t])
    return per_picture(share.sqrt()) * eps_hat, 1 - share


@wrong("predictor.last_noise", "share is beta_t")
def last_share_beta(eps_hat, t, beta, abar):
    return per_picture((beta[t] / (1 - abar[t])).sqrt()) * eps_hat, beta[t]


@wrong("predictor.last_noise", "step t is beta[t]")
def last_slip(eps_hat, t, beta, abar):
    share = beta[t - 1] / (1 - abar[t])
    return per_picture(share.sqrt()) * eps_hat, share


@wrong("predictor.last_noise", "Give it the shape (B, 1, 1, 1)")
def last_columns(eps_hat, t, beta, abar):
    share = beta[t] / (1 - abar[t])
    return share.sqrt() * eps_hat, share


@wrong("predictor.last_noise", "result 2 of 2 (share) is not there yet; what is there is right")
def last_share_open(eps_hat, t, beta, abar):
    return per_picture((beta[t] / (1 - abar[t])).sqrt()) * eps_hat, ...


@right("predictor.last_noise")
def last_through_the_earlier_noise(eps_hat, t, beta, abar):
    """What is left after the share of the earlier steps, alpha_t s_(t-1)^2 of s_t^2."""
    share = 1 - (1 - beta[t]) * (1 - abar[t - 1]) / (1 - abar[t])
    return share.sqrt()[:, None, None, None] * eps_hat, share


@right("predictor.last_noise")
def last_one_by_one(eps_hat, t, beta, abar):
    xi, share = [], []
    for one, k in zip(eps_hat, t.tolist(), strict=True):
        share.append(float(beta[k] / (1 - abar[k])))
        xi.append(math.sqrt(share[-1]) * one)
    return torch.stack(xi), share


# ---- predictor.bound_terms --------------------------------------------------------------------

def snr_of(abar):
    return abar[1:] / (1 - abar[1:])


@wrong("predictor.bound_terms", "the factor 1/2 is missing")
def bound_no_half(error, abar):
    snr = snr_of(abar)
    return (snr[:-1] - snr[1:]) * error[2:]


@wrong("predictor.bound_terms", "the terms are negative")
def bound_sign(error, abar):
    return torch.diff(snr_of(abar)) / 2 * error[2:]


@wrong("predictor.bound_terms", "error[t], not error[t - 1]")
def bound_slip(error, abar):
    return -torch.diff(snr_of(abar)) / 2 * error[1:-1]


@wrong("predictor.bound_terms", "SNR_t is the squared ratio")
def bound_no_square(error, abar):
    return -torch.diff(snr_of(abar).sqrt()) / 2 * error[2:]


@wrong("predictor.bound_terms", "noise over signal")
def bound_upside_down(error, abar):
    return torch.diff((1 - abar[1:]) / abar[1:]) / 2 * error[2:]


@wrong("predictor.bound_terms", "the difference of abar is missing the noise")
def bound_abar(error, abar):
    return (abar[1:-1] - abar[2:]) / 2 * error[2:]


@wrong("predictor.bound_terms", "weighs by the *fall* of the SNR")
def bound_snr(error, abar):
    return 0.5 * snr_of(abar)[1:] * error[2:]


@wrong("predictor.bound_terms", "weighs by the *fall* of the SNR")
def bound_simple(error, abar):
    return snr_of(abar)[1:] * error[2:]


@wrong("predictor.bound_terms", "that is the weight of the error of the noise")
def bound_of_noise(error, abar):
    t = torch.arange(2, len(abar))
    alpha = abar[t] / abar[t - 1]
    return (1 - alpha) / (2 * alpha * (1 - abar[t - 1])) * error[t]


@wrong("predictor.bound_terms", "the first infinite")
def bound_from_one(error, abar):
    snr = abar / (1 - abar)
    return 0.5 * (snr[:-1] - snr[1:]) * error[1:]


@wrong("predictor.bound_terms", "not their sum")
def bound_sum(error, abar):
    snr = snr_of(abar)
    return (0.5 * (snr[:-1] - snr[1:]) * error[2:]).sum()


@wrong("predictor.bound_terms", "not their mean")
def bound_mean(error, abar):
    snr = snr_of(abar)
    return (0.5 * (snr[:-1] - snr[1:]) * error[2:]).mean()


@wrong("predictor.bound_terms", "Leave the result in nats")
def bound_bits(error, abar):
    snr = snr_of(abar)
    return 0.5 * (snr[:-1] - snr[1:]) * error[2:] / math.log(2)


@right("predictor.bound_terms")
def bound_through_the_noise(error, abar):
    """The weight of the error of the noise, times that error, SNR_t error[t]."""
    t = torch.arange(2, len(abar))
    alpha = abar[t] / abar[t - 1]
    of_noise = abar[t] / (1 - abar[t]) * error[t]
    return (1 - alpha) / (2 * alpha * (1 - abar[t - 1])) * of_noise


@right("predictor.bound_terms")
def bound_loop(error, abar):
    ratio = lambda t: abar[t] / (1 - abar[t])
    return [0.5 * (ratio(t - 1) - ratio(t)) * error[t] for t in range(2, len(abar))]


@right("predictor.bound_terms")
def bound_exponents(error, abar):
    """SNR = exp(2 lambda), lambda = logit(abar) / 2, in float64."""
    snr = torch.exp(torch.logit(abar[1:].double()))
    return -0.5 * snr.diff() * error[2:].double()


# ---- own.distances ------------------------------------------------------------------------------

def own_rms(x, among):
    return torch.cdist(x.flatten(1), among.flatten(1)) / x[0].numel() ** 0.5


@wrong("own.distances", "mirror images are not looked at")
def own_no_mirror(x, among):
    return own_rms(x, among)


@wrong("own.distances", "not both, which changes nothing")
def own_both_mirrored(x, among):
    return torch.minimum(own_rms(x, among), own_rms(x.flip(3), among.flip(3)))


@wrong("own.distances", "only the mirror image is looked at")
def own_only_mirrored(x, among):
    return own_rms(x.flip(-1), among)


@wrong("own.distances", "upside down")
def own_upside_down(x, among):
    return torch.minimum(own_rms(x, among), own_rms(x.flip(2), among))


@wrong("own.distances", "exchanges red and blue")
def own_channels(x, among):
    return torch.minimum(own_rms(x, among), own_rms(x.flip(1), among))


@wrong("own.distances", "by 180 degrees")
def own_half_turn(x, among):
    return torch.minimum(own_rms(x, among), own_rms(torch.rot90(x, 2, (2, 3)), among))


@wrong("own.distances", "the larger of the two distances")
def own_larger(x, among):
    return torch.stack([own_rms(x, among), own_rms(x.flip(3), among)]).amax(0)


@wrong("own.distances", "are averaged")
def own_averaged(x, among):
    return torch.stack([own_rms(x, among), own_rms(x.flip(3), among)]).mean(0)


@wrong("own.distances", "root of the sum")
def own_sum(x, among):
    d = torch.cdist(x.flatten(1), among.flatten(1))
    return torch.minimum(d, torch.cdist(x.flip(3).flatten(1), among.flatten(1)))


@wrong("own.distances", "the root is missing")
def own_squares(x, among):
    return torch.minimum(own_rms(x, among), own_rms(x.flip(3), among)) ** 2


@wrong("own.distances", "mean absolute differences")
def own_absolute(x, among):
    gap = lambda y: (y[:, None] - among).abs().mean((2, 3, 4))
    return torch.minimum(gap(x), gap(x.flip(3)))


@wrong("own.distances", "each pixel chooses for itself")
def own_pixelwise(x, among):
    squares = lambda y: (y[:, None] - among) ** 2
    return torch.minimum(squares(x), squares(x.flip(3))).mean((2, 3, 4)).sqrt()


@wrong("own.distances", "It is transposed")
def own_transposed(x, among):
    return torch.minimum(own_rms(among, x), own_rms(among.flip(3), x))


@wrong("own.distances", "has the shape (3,), expected (3, 5)")
def own_nearest_only(x, among):
    return torch.minimum(own_rms(x, among), own_rms(x.flip(3), among)).amin(1)


@right("own.distances")
def own_mirrors_the_others(x, among):
    return torch.minimum(own_rms(x, among), own_rms(x, torch.flip(among, dims=(-1,))))


@right("own.distances")
def own_loop(x, among):
    out = torch.empty(len(x), len(among), dtype=x.dtype)
    for i, p in enumerate(x):
        for j, q in enumerate(among):
            out[i, j] = min(((v - q) ** 2).mean().sqrt() for v in (p, p[:, :, list(range(p.shape[2]))[::-1]]))
    return out


@right("own.distances")
def own_numpy(x, among):
    x, among = x.numpy().astype(float), among.numpy()
    d = np.stack([y[:, None] - among[None] for y in (x, x[..., ::-1])])
    return np.sqrt((d**2).mean((3, 4, 5))).min(0)


@right("own.distances")
def own_all_at_once(x, among):
    both = torch.cat([among, among.flip(3)])
    d = (x[:, None] - both).pow(2).mean(dim=(2, 3, 4)).sqrt()
    return d.view(len(x), 2, len(among)).amin(1)


# ---- own.copying_score ----------------------------------------------------------------------------

@wrong("own.copying_score", "the other way round")
def score_other_way(of_samples, of_new):
    a, b = of_samples[:, None], of_new
    return (a > b).float().mean() + 0.5 * (a == b).float().mean()


@wrong("own.copying_score", "they do not count")
def score_strict(of_samples, of_new):
    return (of_samples[:, None] < of_new).float().mean()


@wrong("own.copying_score", "they count whole")
def score_with_equals(of_samples, of_new):
    return (of_samples[:, None] <= of_new).float().mean()


@wrong("own.copying_score", "the number of pairs")
def score_count(of_samples, of_new):
    a, b = of_samples[:, None], of_new
    return (a < b).float().sum() + 0.5 * (a == b).float().sum()


@wrong("own.copying_score", "no partners")
def score_one_by_one(of_samples, of_new):
    n = min(len(of_samples), len(of_new))
    return (of_samples[:n] < of_new[:n]).float().mean()


@wrong("own.copying_score", "no partners")
def score_sorted(of_samples, of_new):
    pairs = list(zip(sorted(of_samples.tolist()), sorted(of_new.tolist()), strict=False))
    return sum(a < b for a, b in pairs) / len(pairs)


@wrong("own.copying_score", "nearer than ALL new pictures")
def score_minimum(of_samples, of_new):
    return (of_samples < of_new.min()).float().mean()


@wrong("own.copying_score", "replaced by one number")
def score_mean(of_samples, of_new):
    return (of_samples < of_new.mean()).float().mean()


@wrong("own.copying_score", "0 or 1")
def score_two_means(of_samples, of_new):
    return float(of_samples.mean() < of_new.mean())


@wrong("own.copying_score", "difference of distances")
def score_difference(of_samples, of_new):
    return of_new.mean() - of_samples.mean()


@wrong("own.copying_score", "ratio of distances")
def score_ratio(of_samples, of_new):
    return of_samples.mean() / of_new.mean()


@right("own.copying_score")
def score_loop(of_samples, of_new):
    wins = 0.0
    for a in of_samples.tolist():
        for b in of_new.tolist():
            wins += 1.0 if a < b else 0.5 if a == b else 0.0
    return wins / (len(of_samples) * len(of_new))


@right("own.copying_score")
def score_sign(of_samples, of_new):
    return (torch.sign(of_new[None] - of_samples[:, None]).mean() + 1) / 2


@right("own.copying_score")
def score_heaviside(of_samples, of_new):
    return np.heaviside(np.subtract.outer(of_new.numpy(), of_samples.numpy()), 0.5).mean()


@right("own.copying_score")
def score_two_shares(of_samples, of_new):
    a, b = of_samples[:, None], of_new[None]
    return ((a < b).double().mean() + (a <= b).double().mean()) / 2


# ---- sampling.ddpm_step -----------------------------------------------------------------------

@wrong("sampling.ddpm_step", "Divide by the noise coefficient")
def ddpm_beta_over_a(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / abar[t].sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + betas[t].sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "Divide by the noise coefficient")
def ddpm_beta_over_a_posterior(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / abar[t].sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + (betas[t] * (1 - abar[t - 1]) / (1 - abar[t])).sqrt() * z


@wrong("sampling.ddpm_step", "a root is missing")
def ddpm_beta_over_s2(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / (1 - abar[t]) * eps_hat) / (1 - betas[t]).sqrt()
    return mean + betas[t].sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "the cloud shrinks")
def ddpm_no_rescale(xt, eps_hat, t, betas, abar, z):
    mean = xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat
    return mean + betas[t].sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "sigma, the root")
def ddpm_variance(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + betas[t] * z if t > 1 else mean


@wrong("sampling.ddpm_step", "grain on the final picture")
def ddpm_grain(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    if t > 0:  # always true
        mean = mean + betas[t].sqrt() * z
    return mean


@wrong("sampling.ddpm_step", "no fresh noise")
def ddpm_no_noise(xt, eps_hat, t, betas, abar, z):
    return (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()


@wrong("sampling.ddpm_step", "that mean is x0_hat")
def ddpm_all_at_once(xt, eps_hat, t, betas, abar, z):
    x0 = (xt - (1 - abar[t]).sqrt() * eps_hat) / abar[t].sqrt()
    return x0 + betas[t].sqrt() * z if t > 1 else x0


@wrong("sampling.ddpm_step", "subtract the whole predicted noise")
def ddpm_subtract(xt, eps_hat, t, betas, abar, z):
    x = xt - eps_hat
    return x + betas[t].sqrt() * z if t > 1 else x


@wrong("sampling.ddpm_step", "an index slip")
def ddpm_slip(xt, eps_hat, t, betas, abar, z):
    b, ab = betas[t - 1], abar[t - 1]
    mean = (xt - b / (1 - ab).sqrt() * eps_hat) / (1 - b).sqrt()
    return mean + b.sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "an index slip")
def ddpm_slip_betas(xt, eps_hat, t, betas, abar, z):
    b = betas[t - 1]
    mean = (xt - b / (1 - abar[t]).sqrt() * eps_hat) / (1 - b).sqrt()
    return mean + b.sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "shrinking of all t steps")
def ddpm_rescale_all(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / abar[t].sqrt()
    return mean + betas[t].sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "IndexError")
def ddpm_outside(xt, eps_hat, t, betas, abar, z):
    return xt - betas[len(betas)] * eps_hat


@right("sampling.ddpm_step")
def ddpm_beta_variance(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + betas[t].sqrt() * z if t > 1 else mean


@right("sampling.ddpm_step")
def ddpm_through_x0(xt, eps_hat, t, betas, abar, z):
    b, ab, before = betas[t].item(), abar[t].item(), abar[t - 1].item()
    x0 = (xt - math.sqrt(1 - ab) * eps_hat) / math.sqrt(ab)
    mean = (math.sqrt(before) * b * x0 + math.sqrt(1 - b) * (1 - before) * xt) / (1 - ab)
    return mean + math.sqrt(b * (1 - before) / (1 - ab)) * z


@wrong("sampling.ddpm_step", "take out all the predicted noise")
def ddpm_naive(xt, eps_hat, t, betas, abar, z):
    return xt - (1 - abar[t]).sqrt() * eps_hat


@wrong("sampling.ddpm_step", "take out all the predicted noise")
def ddpm_naive_with_noise(xt, eps_hat, t, betas, abar, z):
    mean = (xt - (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + betas[t].sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "subtract it")
def ddpm_plus(xt, eps_hat, t, betas, abar, z):
    mean = (xt + betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + betas[t].sqrt() * z if t > 1 else mean


@wrong("sampling.ddpm_step", "sigma is missing")
def ddpm_bare_z(xt, eps_hat, t, betas, abar, z):
    mean = (xt - betas[t] / (1 - abar[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
    return mean + z if t > 1 else mean


@wrong("sampling.ddpm_step", "betas and abar are exchanged.")
def ddpm_exchanged(xt, eps_hat, t, betas, abar, z):
    return ddpm_beta_variance(xt, eps_hat, t, abar, betas, z)


@right("sampling.ddpm_step")
def ddpm_float32(xt, eps_hat, t, betas, abar, z):
    betas, abar = betas.float(), abar.float()
    x0 = (xt - (1 - abar[t]).sqrt() * eps_hat) / abar[t].sqrt()
    mean = abar[t - 1].sqrt() * betas[t] * x0 + (1 - betas[t]).sqrt() * (1 - abar[t - 1]) * xt
    return mean / (1 - abar[t]) + (betas[t] * (1 - abar[t - 1]) / (1 - abar[t])).sqrt() * z


# ---- sampling.ddim_step -----------------------------------------------------------------------

def ddim_parts(xt, eps_hat, abar_t, abar_r, eta):
    x0 = (xt - (1 - abar_t) ** 0.5 * eps_hat) / abar_t ** 0.5
    return x0, eta * torch.sqrt((1 - abar_r) / (1 - abar_t) * (1 - abar_t / abar_r))


@wrong("sampling.ddim_step", "too much noise for eta > 0")
def ddim_no_minus(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "forgets where x_t came from")
def ddim_z_for_eps(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).sqrt() * z + sigma * z


@wrong("sampling.ddim_step", "forgets where x_t came from")
def ddim_renoise(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r).sqrt() * z


@wrong("sampling.ddim_step", "it cannot skip")
def ddim_is_ddpm(xt, eps_hat, abar_t, abar_r, eta, z):
    alpha = abar_t / abar_r
    beta = 1 - alpha
    mean = (xt - beta / (1 - abar_t).sqrt() * eps_hat) / alpha.sqrt()
    return mean + eta * (beta * (1 - abar_r) / (1 - abar_t)).sqrt() * z


@wrong("sampling.ddim_step", "in place of sigma")
def ddim_eta(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r - eta**2).sqrt() * eps_hat + eta * z


@wrong("sampling.ddim_step", "in place of sigma")
def ddim_eta_clamped(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r - eta**2).clamp(min=0).sqrt() * eps_hat + eta * z


@wrong("sampling.ddim_step", "eta is not used")
def ddim_deterministic(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r).sqrt() * eps_hat


@wrong("sampling.ddim_step", "sigma, the root")
def ddim_sigma_squared(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    sigma = eta**2 * (1 - abar_r) / (1 - abar_t) * (1 - abar_t / abar_r)
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "sigma is off")
def ddim_half_sigma(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    sigma = eta * ((1 - abar_r) / (1 - abar_t)).sqrt()
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "noise level of t")
def ddim_level_of_t(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_t - sigma**2).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "the picture was shrunk")
def ddim_no_a(xt, eps_hat, abar_t, abar_r, eta, z):
    _, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    x0 = xt - (1 - abar_t).sqrt() * eps_hat
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).sqrt() * eps_hat + sigma * z


@right("sampling.ddim_step")
def ddim_without_x0(xt, eps_hat, abar_t, abar_r, eta, z):
    (a_t, s_t), (a_r, s_r) = ((ab.sqrt(), (1 - ab).sqrt()) for ab in (abar_t, abar_r))
    if eta == 0:
        return a_r / a_t * xt + (s_r - a_r * s_t / a_t) * eps_hat
    sigma = eta * s_r / s_t * (1 - abar_t / abar_r).sqrt()
    return a_r / a_t * xt + ((s_r**2 - sigma**2).sqrt() - a_r * s_t / a_t) * eps_hat + sigma * z


@right("sampling.ddim_step")
def ddim_math(xt, eps_hat, abar_t, abar_r, eta, z):
    t, r = float(abar_t), float(abar_r)
    sigma = eta * math.sqrt((1 - r) / (1 - t) * (1 - t / r))
    x0 = (xt - math.sqrt(1 - t) * eps_hat) / math.sqrt(t)
    return math.sqrt(r) * x0 + math.sqrt(max(0.0, 1 - r - sigma**2)) * eps_hat + sigma * z


@wrong("sampling.ddim_step", "sigma z is missing")
def ddim_no_fresh(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).sqrt() * eps_hat


@wrong("sampling.ddim_step", "a root is missing")
def ddim_no_roots(xt, eps_hat, abar_t, abar_r, eta, z):
    x0 = (xt - (1 - abar_t) * eps_hat) / abar_t
    _, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r * x0 + (1 - abar_r - sigma**2) * eps_hat + sigma * z


@wrong("sampling.ddim_step", "sigma is off")
def ddim_half_sigma_clamped(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    sigma = eta * (1 - abar_t / abar_r).sqrt()
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).clamp(min=0).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "a ratio that is upside down")
def ddim_ratio_clamped(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    sigma = eta * ((1 - abar_r) / (1 - abar_t) * (1 - abar_r / abar_t).clamp(min=0)).sqrt()
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).clamp(min=0).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "is a ratio in sigma upside down?")
def ddim_ratio(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, _ = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    sigma = eta * ((1 - abar_r) / (1 - abar_t) * (1 - abar_r / abar_t)).sqrt()
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma**2).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "not standard deviations")
def ddim_sd_subtracted(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + (1 - abar_r - sigma).clamp(min=0).sqrt() * eps_hat + sigma * z


@wrong("sampling.ddim_step", "not standard deviations")
def ddim_sd_after_root(xt, eps_hat, abar_t, abar_r, eta, z):
    x0, sigma = ddim_parts(xt, eps_hat, abar_t, abar_r, eta)
    return abar_r.sqrt() * x0 + ((1 - abar_r).sqrt() - sigma) * eps_hat + sigma * z


@wrong("sampling.ddim_step", "the end of the way")
def ddim_returns_x0(xt, eps_hat, abar_t, abar_r, eta, z):
    return (xt - (1 - abar_t).sqrt() * eps_hat) / abar_t.sqrt()


# ---- sampling.timesteps -----------------------------------------------------------------------

@wrong("sampling.timesteps", "unseen level")
def times_from_below(T, n):
    return torch.linspace(T - T // n, 0, n + 1).round().long()


@wrong("sampling.timesteps", "unseen level")
def times_python_habit(T, n):
    return torch.linspace(T - 1, 0, n + 1).round().long()


@wrong("sampling.timesteps", "out of range")
def times_too_high(T, n):
    return torch.linspace(T + 1, 0, n + 1).round().long()


@wrong("sampling.timesteps", "out of range")
def times_negative(T, n):
    return [round(T - i * T / (n - 1)) for i in range(n + 1)]


@wrong("sampling.timesteps", "ascending")
def times_ascending(T, n):
    return torch.linspace(0, T, n + 1).round().long()


@wrong("sampling.timesteps", "duplicates")
def times_dense_at_zero(T, n):
    return (torch.linspace(1, 0, n + 1) ** 4 * T).round().long()


@wrong("sampling.timesteps", "must be 0")
def times_stop_early(T, n):
    return torch.linspace(T, 1, n + 1).round().long()


@wrong("sampling.timesteps", "n + 1 ends")
def times_range(T, n):
    return [*range(T, 0, -(T // n)), 0]


@wrong("sampling.timesteps", "whole times only")
def times_not_rounded(T, n):
    return torch.linspace(T, 0, n + 1)


@wrong("sampling.timesteps", "down at every step")
def times_disordered(T, n):
    times = torch.linspace(T, 0, n + 1).round().long()
    times[[2, 3]] = times[[3, 2]]
    return times


@right("sampling.timesteps")
def times_uniform_in_lambda(T, n):
    abar = DDPM(T).abar[1:]
    lam = 0.5 * torch.log(abar / (1 - abar))
    wanted = torch.linspace(lam[-1], lam[0], n)
    return torch.cat([(lam - wanted[:, None]).abs().argmin(1) + 1, torch.zeros(1).long()])


@right("sampling.timesteps")
def times_list(T, n):
    return [round(T * (n - i) / n) for i in range(n + 1)]


@right("sampling.timesteps")
def times_quadratic(T, n):
    return (np.linspace(1, 0, n + 1) ** 1.5 * T).astype(int)


@right("sampling.timesteps")
def times_turned_round(T, n):
    return np.linspace(0, T, n + 1).round().astype(int)[::-1]


@right("sampling.timesteps")
def times_whole_floats(T, n):
    return tuple(float(round(T * (n - i) / n)) for i in range(n + 1))


@right("sampling.timesteps")
def times_int32(T, n):
    return torch.linspace(T, 0, n + 1).round().int()


# ---- sampling.dpmpp_2m_step -------------------------------------------------------------------

def two_m(D, xt, h, a_next, s, s_next):
    return s_next / s * xt - a_next * (torch.exp(-h) - 1) * D


@wrong("sampling.dpmpp_2m_step", "k is inverted")
def m2_inverted(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        k = h / (lam - lam_prev)
        D = (1 + 1 / (2 * k)) * x0 - x0_prev / (2 * k)
    return two_m(D, xt, h, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "right only for equal steps")
def m2_equal_steps(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    D = x0 if x0_prev is None or s_next == 0 else 1.5 * x0 - 0.5 * x0_prev
    return two_m(D, xt, lam_next - lam, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "a sign is wrong")
def m2_sign(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (2 * (lam - lam_prev))
    return s_next / s * xt - a_next * torch.expm1(h) * D


@wrong("sampling.dpmpp_2m_step", "another solver")
def m2_eps(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D, a = lam_next - lam, x0, (1 - s**2).sqrt()
    if x0_prev is not None and s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (2 * (lam - lam_prev))
    return a_next / a * xt - s_next * torch.expm1(h) * D


@wrong("sampling.dpmpp_2m_step", "NaN at the last step")
def m2_nan(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None:
        k = (lam - lam_prev) / h
        D = (1 + 1 / (2 * k)) * x0 - x0_prev / (2 * k)
    return two_m(D, xt, h, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "NaN at the last step")
def m2_no_ends(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h = lam_next - lam
    k = (lam - lam_prev) / h
    return two_m((1 + 1 / (2 * k)) * x0 - x0_prev / (2 * k), xt, h, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "the first step has no memory")
def m2_no_first(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (2 * (lam - lam_prev))
    return two_m(D, xt, h, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "that is DDIM, first order")
def m2_first_order(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    return two_m(x0, xt, lam_next - lam, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "from x0_prev to x0")
def m2_interpolates(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        k = (lam - lam_prev) / h
        D = (1 - 1 / (2 * k)) * x0 + x0_prev / (2 * k)
    return two_m(D, xt, h, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "2 in 1/(2k)")
def m2_full_slope(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (lam - lam_prev)
    return two_m(D, xt, h, a_next, s, s_next)


@wrong("sampling.dpmpp_2m_step", "k is inverted")
def m2_inverted_and_nan(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0  # two mistakes: the first is named first
    if x0_prev is not None:
        D = x0 + (x0 - x0_prev) * (lam - lam_prev) / (2 * h)
    return two_m(D, xt, h, a_next, s, s_next)


@right("sampling.dpmpp_2m_step")
def m2_with_h(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (2 * (lam - lam_prev))
    return s_next / s * xt + a_next * (1 - torch.exp(-h)) * D


@right("sampling.dpmpp_2m_step")
def m2_floats(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h = float(lam_next - lam)
    slope = 0.0 if lam_prev is None or math.isinf(h) else h / float(lam - lam_prev) / 2
    memory = x0 if x0_prev is None else x0_prev
    return (s_next / s) * xt - a_next * math.expm1(-h) * torch.lerp(x0, memory, -slope)


@wrong("sampling.dpmpp_2m_step", "the letters are mixed up")
def m2_other_letters(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (2 * (lam - lam_prev))
    return a_next / s * xt - s_next * torch.expm1(-h) * D


@wrong("sampling.dpmpp_2m_step", "the - 1 is missing")
def m2_exp(xt, x0, x0_prev, lam_prev, lam, lam_next, a_next, s, s_next):
    h, D = lam_next - lam, x0
    if x0_prev is not None and s_next > 0:
        D = x0 + (x0 - x0_prev) * h / (2 * (lam - lam_prev))
    return s_next / s * xt - a_next * torch.exp(-h) * D


# ---- latents.make_pair ------------------------------------------------------------------------

@wrong("latents.make_pair", "15 are dropped")
def pair_strided(x):
    return x[:, :, ::4, ::4], x


@wrong("latents.make_pair", "15 are dropped")
def pair_nearest(x):
    return F.interpolate(x, size=x.shape[-1] // 4, mode="nearest"), x


@wrong("latents.make_pair", "a few of the 16 pixels")
def pair_bilinear(x):
    return F.interpolate(x, scale_factor=1 / 4, mode="bilinear", align_corners=False), x


@wrong("latents.make_pair", "wrong way round")
def pair_swapped(x):
    return x, F.avg_pool2d(x, 4)


@wrong("latents.make_pair", "blown up again")
def pair_upsampled(x):
    return F.avg_pool2d(x, 4).repeat_interleave(4, 2).repeat_interleave(4, 3), x


@wrong("latents.make_pair", "the target, is missing")
def pair_small_only(x):
    return F.avg_pool2d(x, 4)


@right("latents.make_pair")
def pair_reshape(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 4, 4, w // 4, 4).mean((3, 5)), x


@right("latents.make_pair")
def pair_area(x):
    return F.interpolate(x, scale_factor=0.25, mode="area"), x


@wrong("latents.make_pair", "also weighs pixels of the squares around")
def pair_antialias(x):
    return F.interpolate(x, scale_factor=0.25, mode="bilinear", antialias=True), x


@wrong("latents.make_pair", "also weighs pixels of the squares around")
def pair_bicubic_antialias(x):
    return F.interpolate(x, size=x.shape[-1] // 4, mode="bicubic", antialias=True), x


@wrong("latents.make_pair", "a few of the 16 pixels")
def pair_corners(x):
    return F.interpolate(x, scale_factor=0.25, mode="bilinear", align_corners=True), x


@wrong("latents.make_pair", "15 are dropped")
def pair_nearest_exact(x):
    return F.interpolate(x, scale_factor=0.25, mode="nearest-exact"), x


@wrong("latents.make_pair", "Which axes did reshape make?")
def pair_far_apart(x):
    b, c, h, w = x.shape
    return x.view(b, c, 4, h // 4, 4, w // 4).mean((2, 4)), x


@wrong("latents.make_pair", "16 times what is expected")
def pair_sum(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 4, 4, w // 4, 4).sum((3, 5)), x


@wrong("latents.make_pair", "result 2 of 2 (x) is not there yet; what is there is right")
def pair_open(x):
    return F.avg_pool2d(x, 4), ...


@right("latents.make_pair")
def pair_numpy_list(x):
    b, c, h, w = x.shape
    return [x.numpy().reshape(b, c, h // 4, 4, w // 4, 4).mean((3, 5)), x.numpy()[:, ::-1][:, ::-1]]


# ---- latents.damage ---------------------------------------------------------------------------

@wrong("latents.damage", "must shrink as noise comes in")
def damage_added(small, level, eps):
    return small + level.reshape(-1, 1, 1, 1) * eps


@wrong("latents.damage", "a + s = 1")
def damage_lerp(small, level, eps):
    return torch.lerp(small, eps, level.reshape(-1, 1, 1, 1))


@wrong("latents.damage", "not its square")
def damage_squared(small, level, eps):
    s = level.reshape(-1, 1, 1, 1)
    return torch.sqrt(1 - s) * small + torch.sqrt(s) * eps


@wrong("latents.damage", "enlarging later")
def damage_after_enlarging(small, level, eps):
    s = level.reshape(-1, 1, 1, 1)
    large, eps = (v.repeat_interleave(4, 2).repeat_interleave(4, 3) for v in (small, eps))
    return torch.sqrt(1 - s**2) * large + s * eps


@wrong("latents.damage", "its own level")
def damage_one_level(small, level, eps):
    s = level[0]
    return torch.sqrt(1 - s**2) * small + s * eps


@wrong("latents.damage", "stops with RuntimeError")
def damage_broadcast(small, level, eps):
    return (1 - level**2).sqrt() * small + level * eps


@right("latents.damage")
def damage_einsum(small, level, eps):
    return (torch.einsum("b,bchw->bchw", torch.cos(torch.asin(level)), small)
            + torch.einsum("b,bchw->bchw", level, eps))


@right("latents.damage")
def damage_one_by_one(small, level, eps):
    return torch.stack([math.sqrt(1 - s.item() ** 2) * x + s.item() * e
                        for x, s, e in zip(small, level, eps, strict=True)])


@wrong("latents.damage", "level is that of the noise")
def damage_exchanged(small, level, eps):
    s = level.reshape(-1, 1, 1, 1)
    return s * small + torch.sqrt(1 - s**2) * eps


@wrong("latents.damage", "draw none of your own")
def damage_own_noise(small, level, eps):
    s = level.reshape(-1, 1, 1, 1)
    return torch.sqrt(1 - s**2) * small + s * torch.randn_like(small)


@wrong("latents.damage", "eps is not used")
def damage_own_generator(small, level, eps):
    s = level.reshape(-1, 1, 1, 1)
    return torch.sqrt(1 - s**2) * small + s * torch.randn(small.shape, generator=torch.Generator())


@wrong("latents.damage", "give the smaller one more axes")
def damage_no_axes(small, level, eps):
    return torch.sqrt(1 - level**2) * small + level * eps


# ---- latents.kl_std_normal --------------------------------------------------------------------

@wrong("latents.kl_std_normal", "the sign is wrong")
def kl_sign(mu, logvar):
    return 0.5 * (1 + logvar - mu.square() - logvar.exp()).flatten(1).sum(1)


@wrong("latents.kl_std_normal", "factor 1/2 is missing")
def kl_no_half(mu, logvar):
    return (mu.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


@wrong("latents.kl_std_normal", "hidden beta")
def kl_mean(mu, logvar):
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).flatten(1).mean(1)


@wrong("latents.kl_std_normal", "the samples are mixed")
def kl_one_number(mu, logvar):
    return 0.5 * torch.sum(mu.square() + logvar.exp() - 1 - logvar)


@wrong("latents.kl_std_normal", "logvar as sigma;")
def kl_as_sigma(mu, logvar):
    return 0.5 * (mu**2 + logvar**2 - 1 - 2 * torch.log(logvar.abs())).flatten(1).sum(1)


@wrong("latents.kl_std_normal", "-1 is missing")
def kl_no_one(mu, logvar):
    return 0.5 * (mu.square() + logvar.exp() - logvar).flatten(1).sum(1)


@wrong("latents.kl_std_normal", "ln sigma; it is ln sigma^2")
def kl_as_ln_sigma(mu, logvar):
    return (0.5 * (mu**2 + torch.exp(logvar) ** 2 - 1) - logvar).flatten(1).sum(1)


@right("latents.kl_std_normal")
def kl_distributions(mu, logvar):
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    return kl.sum(dim=tuple(range(1, kl.ndim)))


@right("latents.kl_std_normal")
def kl_cross_entropy_minus_entropy(mu, logvar):
    mu, logvar = mu.flatten(1), logvar.flatten(1)
    cross = 0.5 * (math.log(2 * math.pi) + mu**2 + logvar.exp()).sum(1)
    return cross - 0.5 * (math.log(2 * math.pi) + 1 + logvar).sum(1)


@wrong("latents.kl_std_normal", "mu is not used")
def kl_no_mu(mu, logvar):
    return 0.5 * (logvar.exp() - 1 - logvar).flatten(1).sum(1)


@wrong("latents.kl_std_normal", "sigma stands where sigma^2 belongs")
def kl_sigma(mu, logvar):
    return 0.5 * (mu**2 + (0.5 * logvar).exp() - 1 - logvar).flatten(1).sum(1)


@wrong("latents.kl_std_normal", "These are bits")
def kl_bits(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1) / math.log(2)


@right("latents.kl_std_normal")
def kl_list(mu, logvar):
    return [0.5 * (m**2 + v.exp() - 1 - v).sum().item() for m, v in zip(mu, logvar, strict=True)]


# ---- latents.reparam --------------------------------------------------------------------------

@wrong("latents.reparam", "e^logvar is sigma^2")
def reparam_variance(mu, logvar, eps):
    return mu + logvar.exp() * eps


@wrong("latents.reparam", "is a logarithm")
def reparam_logvar(mu, logvar, eps):
    return mu + logvar * eps


@wrong("latents.reparam", "mu is missing")
def reparam_no_mu(mu, logvar, eps):
    return torch.exp(logvar / 2) * eps


@wrong("latents.reparam", "mu gets no gradient")
def reparam_no_grad(mu, logvar, eps):
    with torch.no_grad():
        return mu + torch.exp(logvar / 2) * eps


@wrong("latents.reparam", "mu gets no gradient")
def reparam_normal(mu, logvar, eps):
    return mu.detach() + torch.exp(logvar / 2) * eps


@wrong("latents.reparam", "logvar gets no gradient")
def reparam_width_detached(mu, logvar, eps):
    return mu + torch.exp(logvar / 2).detach() * eps


@wrong("latents.reparam", "one eps for the whole batch")
def reparam_one_eps(mu, logvar, eps):
    return mu + torch.exp(logvar / 2) * eps[0]


@right("latents.reparam")
def reparam_root(mu, logvar, eps):
    return mu + logvar.exp().sqrt() * eps


@right("latents.reparam")
def reparam_addcmul(mu, logvar, eps):
    return torch.addcmul(mu, eps, (0.5 * logvar).exp())


@wrong("latents.reparam", "draw none of your own")
def reparam_own_noise(mu, logvar, eps):
    return mu + torch.exp(logvar / 2) * torch.randn_like(mu)


@right("latents.reparam")
def reparam_rsample(mu, logvar, eps):
    return torch.distributions.Normal(mu, torch.exp(logvar / 2)).rsample()


@right("latents.reparam")
def reparam_minus(mu, logvar, eps):
    return mu - torch.exp(logvar / 2) * eps


# ---- latents.straight_through -----------------------------------------------------------------

@wrong("latents.straight_through", "the gradient is 0")
def straight_round(z):
    return torch.round(z)


@wrong("latents.straight_through", "the gradient is 0")
def straight_all_detached(z):
    return (z + (z.round() - z)).detach()


@wrong("latents.straight_through", "nothing is rounded")
def straight_identity(z):
    return z


@wrong("latents.straight_through", "round to the nearest")
def straight_floor(z):
    return z + (torch.floor(z) - z).detach()


@wrong("latents.straight_through", "a factor of 1")
def straight_twice(z):
    return 2 * z + (z.round() - 2 * z).detach()


@right("latents.straight_through")
def straight_other_order(z):
    return z.round().detach() + z - z.detach()


class RoundSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.round()

    @staticmethod
    def backward(ctx, g):
        return g


@right("latents.straight_through")
def straight_autograd(z):
    return RoundSTE.apply(z)


@wrong("latents.straight_through", "that rounds up")
def straight_ceil(z):
    return z + (torch.ceil(z) - z).detach()


@wrong("latents.straight_through", "the gradient is 0")
def straight_numpy(z):
    return z.detach().numpy().round()


# ---- latents.latent_scale ---------------------------------------------------------------------

@wrong("latents.latent_scale", "erases contrast")
def scale_per_picture(z):
    return (z - z.mean((1, 2, 3), keepdim=True)) / z.std((1, 2, 3), keepdim=True)


@wrong("latents.latent_scale", "one number for all channels")
def scale_global(z):
    return (z - z.mean()) / z.std()


@wrong("latents.latent_scale", "the mean is still there")
def scale_no_mean(z):
    return z / z.std((0, 2, 3), keepdim=True)


@wrong("latents.latent_scale", "divide by the variance")
def scale_variance(z):
    return (z - z.mean((0, 2, 3), keepdim=True)) / z.var((0, 2, 3), keepdim=True)


@wrong("latents.latent_scale", "nothing is scaled")
def scale_forgotten(z):
    return z.clone()


@wrong("latents.latent_scale", "one outlier")
def scale_max(z):
    return (z - z.mean((0, 2, 3), keepdim=True)) / z.abs().amax((0, 2, 3), keepdim=True)


@right("latents.latent_scale")
def scale_population(z):
    m = z.mean((0, 2, 3), keepdim=True)
    return (z - m) / ((z - m) ** 2).mean((0, 2, 3), keepdim=True).sqrt()


@right("latents.latent_scale")
def scale_loop(z):
    return torch.stack([(c - c.mean()) / c.std() for c in z.unbind(1)], 1)


@wrong("latents.latent_scale", "over the channels of one position")
def scale_over_channels(z):
    return (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)


@right("latents.latent_scale")
def scale_numpy(z):
    z = z.numpy()
    return (z - z.mean((0, 2, 3), keepdims=True)) / z.std((0, 2, 3), keepdims=True)


# ---- conditioning.pad_mask ----------------------------------------------------------------------

@wrong("conditioning.pad_mask", "softmax of nothing is NaN")
def pad_mask_plain(lengths, L):
    return torch.arange(L)[None] < lengths[:, None]


@wrong("conditioning.pad_mask", "last word is hidden")
def pad_mask_short(lengths, L):
    return torch.stack([torch.arange(L) < max(int(n) - 1, 1) for n in lengths])


@wrong("conditioning.pad_mask", "padding still shows")
def pad_mask_long(lengths, L):
    return lengths[:, None] >= torch.arange(L)


@wrong("conditioning.pad_mask", "True means a word")
def pad_mask_inverted(lengths, L):
    return torch.arange(L) >= lengths[:, None]


@right("conditioning.pad_mask")
def pad_mask_loop(lengths, L):
    mask = torch.zeros(len(lengths), L, dtype=torch.bool)
    for row, n in zip(mask, lengths.tolist(), strict=True):
        row[:max(n, 1)] = True
    return mask


@right("conditioning.pad_mask")
def pad_mask_additive(lengths, L):
    words = torch.arange(L) < lengths.clamp(min=1)[:, None]
    return torch.zeros(words.shape).masked_fill(~words, float("-inf"))


@wrong("conditioning.pad_mask", "padding would be seen")
def pad_mask_float(lengths, L):
    return (torch.arange(L) < lengths.clamp(min=1)[:, None]).float()


@wrong("conditioning.pad_mask", "padding would be seen")
def pad_mask_ones(lengths, L):
    return [[1 if i < max(n, 1) else 0 for i in range(L)] for n in lengths.tolist()]


@right("conditioning.pad_mask")
def pad_mask_numpy(lengths, L):
    return np.arange(L) < np.maximum(lengths.numpy(), 1)[:, None]


@right("conditioning.pad_mask")
def pad_mask_lists(lengths, L):
    return [[i < max(n, 1) for i in range(L)] for n in lengths.tolist()]


# ---- conditioning.cross_attention ---------------------------------------------------------------

@wrong("conditioning.cross_attention", "runs over the pixels")
def attend_over_pixels(q, k, v, mask):
    s = torch.einsum("bpd,bld->bpl", q, k) / q.shape[-1] ** 0.5
    return s.masked_fill(~mask[:, None], -torch.inf).softmax(dim=-2).nan_to_num() @ v


@wrong("conditioning.cross_attention", "saturates on one word")
def attend_no_scale(q, k, v, mask):
    return (q @ k.transpose(1, 2)).masked_fill(~mask[:, None], -1e9).softmax(-1) @ v


@wrong("conditioning.cross_attention", "sum to less than 1")
def attend_mask_late(q, k, v, mask):
    a = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return a.masked_fill(~mask[:, None], 0) @ v


@wrong("conditioning.cross_attention", "attends to padding")
def attend_inverted(q, k, v, mask):
    s = q @ k.mT * q.shape[-1] ** -0.5
    return s.masked_fill(mask[:, None], -1e9).softmax(-1) @ v


@wrong("conditioning.cross_attention", "e^0 = 1")
def attend_zero_scores(q, k, v, mask):
    return torch.where(mask[:, None], q @ k.mT / q.shape[-1] ** 0.5, 0.0).softmax(-1) @ v


@right("conditioning.cross_attention")
def attend_sdpa(q, k, v, mask):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask[:, None])


@right("conditioning.cross_attention")
def attend_prescaled(q, k, v, mask):
    a = (q / q.shape[-1] ** 0.5 @ k.mT).exp() * mask[:, None]
    return a / a.sum(-1, keepdim=True) @ v


@wrong("conditioning.cross_attention", "not by that of the number of places")
def attend_root_of_length(q, k, v, mask):
    s = q @ k.mT / k.shape[1] ** 0.5
    return s.masked_fill(~mask[:, None], -torch.inf).softmax(-1) @ v


@wrong("conditioning.cross_attention", "do not multiply by it")
def attend_times_root(q, k, v, mask):
    s = q @ k.mT * q.shape[-1] ** 0.5
    return s.masked_fill(~mask[:, None], -torch.inf).softmax(-1) @ v


# ---- conditioning.drop_captions -----------------------------------------------------------------

@wrong("conditioning.drop_captions", "one coin for the whole batch")
def drop_all_or_none(ids, null, p, u):
    return null.expand_as(ids) if u[0] < p else ids


@wrong("conditioning.drop_captions", "it keeps with probability p")
def drop_kept(ids, null, p, u):
    return torch.where((u < p)[:, None], ids, null)


@wrong("conditioning.drop_captions", "drop whole captions")
def drop_words(ids, null, p, u):
    coins = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(coins < 0.5, null, ids)


@wrong("conditioning.drop_captions", "in place")
def drop_in_place(ids, null, p, u):
    ids[u < p] = null
    return ids


@wrong("conditioning.drop_captions", "not the null caption")
def drop_to_zero(ids, null, p, u):
    return ids * (u >= p)[:, None]


@right("conditioning.drop_captions")
def drop_indexed(ids, null, p, u):
    out = ids.clone()
    out[u < p] = null
    return out


@right("conditioning.drop_captions")
def drop_stacked(ids, null, p, u):
    return torch.stack([null if coin < p else row for row, coin in zip(ids, u, strict=True)])


@wrong("conditioning.drop_captions", "draw none of your own")
def drop_own_coins(ids, null, p, u):
    return torch.where((torch.rand(len(ids)) < p)[:, None], null, ids)


@right("conditioning.drop_captions")
def drop_lists(ids, null, p, u):
    return [null.tolist() if coin < p else row.tolist() for row, coin in zip(ids, u, strict=True)]


@right("conditioning.drop_captions")
def drop_float(ids, null, p, u):
    gone = (u < p).float()[:, None]
    return gone * null + (1 - gone) * ids


# ---- conditioning.cfg ---------------------------------------------------------------------------

@wrong("conditioning.cfg", "swapped")
def cfg_swapped(eps_0, eps_c, w):
    return torch.lerp(eps_c, eps_0, w)


@wrong("conditioning.cfg", "the other convention")
def cfg_one_more(eps_0, eps_c, w):
    return (1 + w) * eps_c - w * eps_0


@wrong("conditioning.cfg", "averages the two")
def cfg_average(eps_0, eps_c, w):
    return (eps_0 + w * eps_c) / (w + 1)


@wrong("conditioning.cfg", "subtract eps_0 first")
def cfg_sum(eps_0, eps_c, w):
    return eps_0 + w * eps_c


@right("conditioning.cfg")
def cfg_lerp(eps_0, eps_c, w):
    return torch.lerp(eps_0, eps_c, w)


@right("conditioning.cfg")
def cfg_two_weights(eps_0, eps_c, w):
    return w * eps_c - (w - 1) * eps_0


@wrong("conditioning.cfg", "not by w - 1")
def cfg_one_less(eps_0, eps_c, w):
    return eps_0 + (w - 1) * (eps_c - eps_0)


@wrong("conditioning.cfg", "in a list of one")
def cfg_in_a_list(eps_0, eps_c, w):
    return [eps_0 + w * (eps_c - eps_0)]


@right("conditioning.cfg")
def cfg_numpy(eps_0, eps_c, w):
    return eps_0.numpy() + w * (eps_c.numpy() - eps_0.numpy())


@right("conditioning.cfg")
def cfg_float64(eps_0, eps_c, w):
    return eps_0.double() + w * (eps_c.double() - eps_0.double())


# ---- scores.gaussian --------------------------------------------------------------------------

@wrong("scores.gaussian", "divide by N - 1")
def gaussian_by_n(x):
    c = x - x.mean(0)
    return x.mean(0), c.T @ c / x.shape[0]


@wrong("scores.gaussian", "was not subtracted")
def gaussian_raw_moment(x):
    return x.mean(dim=0), torch.einsum("ni,nj->ij", x, x) / (len(x) - 1)


@wrong("scores.gaussian", "axes are swapped")
def gaussian_of_rows(x):
    return x.mean(0), torch.cov(x)


@wrong("scores.gaussian", "variances only")
def gaussian_variances(x):
    return x.mean(0), torch.var(x, dim=0)


@right("scores.gaussian")
def gaussian_outer(x):
    c = x - x.mean(0, keepdim=True)
    return x.mean(0), sum(torch.outer(v, v) for v in c) / (len(x) - 1)


@right("scores.gaussian")
def gaussian_numpy(x):
    return x.mean(0), torch.as_tensor(np.cov(x.numpy(), rowvar=False)).to(x)


@wrong("scores.gaussian", "result 2 of 2 (covariance) is not there yet; what is there is right")
def gaussian_open(x):
    return x.mean(0), ...


@wrong("scores.gaussian", "return (mean, covariance)")
def gaussian_other_order(x):
    return torch.cov(x.T), x.mean(0)


@right("scores.gaussian")
def gaussian_two_arrays(x):
    return x.numpy().mean(0), np.cov(x.numpy().T)


@right("scores.gaussian")
def gaussian_two_types(x):
    return x.mean(0), torch.cov(x.double().T)


# ---- scores.frechet ---------------------------------------------------------------------------

@wrong("scores.frechet", "no root at the end")
def frechet_root(m1, S1, m2, S2):
    roots = torch.linalg.eigvals(S1 @ S2).real.clamp(min=0).sqrt()
    return ((m1 - m2).square().sum() + S1.trace() + S2.trace() - 2 * roots.sum()).sqrt()


@wrong("scores.frechet", "number by number")
def frechet_elementwise(m1, S1, m2, S2):
    return ((m1 - m2) ** 2).sum() + torch.trace(S1 + S2 - 2 * (S1 * S2).abs().sqrt())


@wrong("scores.frechet", "only where S1 and S2 commute")
def frechet_two_roots(m1, S1, m2, S2):
    def root(S):
        u, s, v = torch.linalg.svd(S)
        return u @ torch.diag(s.sqrt()) @ v
    return ((m1 - m2) ** 2).sum() + S1.trace() + S2.trace() - 2 * (root(S1) @ root(S2)).trace()


@wrong("scores.frechet", "enters squared")
def frechet_mean_not_squared(m1, S1, m2, S2):
    roots = torch.linalg.eigvals(S1 @ S2).real.clamp(min=0).sqrt()
    return torch.linalg.norm(m1 - m2) + S1.trace() + S2.trace() - 2 * roots.sum()


@wrong("scores.frechet", "term with the product is missing")
def frechet_no_product(m1, S1, m2, S2):
    return ((m1 - m2) ** 2).sum() + S1.trace() + S2.trace()


@right("scores.frechet")
def frechet_nuclear(m1, S1, m2, S2):
    A, B = torch.linalg.cholesky(S1), torch.linalg.cholesky(S2)
    return ((m1 - m2) ** 2).sum() + torch.trace(S1) + torch.trace(S2) - 2 * torch.linalg.norm(A.T @ B, "nuc")


@right("scores.frechet")
def frechet_eigvals(m1, S1, m2, S2):
    roots = torch.linalg.eigvals(S1 @ S2).sqrt().real
    return (m1 - m2) @ (m1 - m2) + (S1 + S2).trace() - 2 * roots.sum() - 1e-9


@right("scores.frechet")
def frechet_complex(m1, S1, m2, S2):
    roots = torch.linalg.eigvals(S1.double() @ S2.double()).sqrt()
    return ((m1 - m2) ** 2).sum() + S1.trace() + S2.trace() - 2 * roots.sum()


@right("scores.frechet")
def frechet_float(m1, S1, m2, S2):
    roots = np.sqrt(np.linalg.eigvals(S1.numpy() @ S2.numpy()).real.clip(min=0))
    return float(((m1 - m2) ** 2).sum() + torch.trace(S1 + S2)) - 2 * roots.sum()


# ---- scores.kl_gauss --------------------------------------------------------------------------

def _normals(m1, S1, m2, S2):
    return (torch.distributions.MultivariateNormal(m, S) for m, S in ((m1, S1), (m2, S2)))


@wrong("scores.kl_gauss", "the divergence is directed")
def kl_gauss_swapped(m1, S1, m2, S2):
    p, q = _normals(m1, S1, m2, S2)
    return torch.distributions.kl_divergence(q, p)


@wrong("scores.kl_gauss", "upside down")
def kl_gauss_log_flipped(m1, S1, m2, S2):
    P, m = S2.inverse(), m2 - m1
    return 0.5 * (torch.trace(P @ S1) + m @ P @ m - len(m) + torch.log(S1.det() / S2.det()))


@wrong("scores.kl_gauss", "- d is missing")
def kl_gauss_no_d(m1, S1, m2, S2):
    P, m = S2.inverse(), m2 - m1
    return 0.5 * (torch.trace(P @ S1) + m @ P @ m + torch.log(S2.det() / S1.det()))


@wrong("scores.kl_gauss", "distance of the means is missing")
def kl_gauss_no_means(m1, S1, m2, S2):
    return 0.5 * (torch.trace(S2.inverse() @ S1) - len(m1) + torch.log(S2.det() / S1.det()))


@right("scores.kl_gauss")
def kl_gauss_distributions(m1, S1, m2, S2):
    return torch.distributions.kl_divergence(*_normals(m1, S1, m2, S2))


@right("scores.kl_gauss")
def kl_gauss_cholesky(m1, S1, m2, S2):
    L1, L2 = torch.linalg.cholesky(S1), torch.linalg.cholesky(S2)
    A, b = torch.linalg.solve(L2, L1), torch.linalg.solve(L2, m2 - m1)
    return 0.5 * ((A**2).sum() + (b**2).sum() - len(b)) + torch.log(L2.diag() / L1.diag()).sum()


@wrong("scores.kl_gauss", "S2^-1 is missing between them")
def kl_gauss_bare_means(m1, S1, m2, S2):
    m = m2 - m1
    return 0.5 * (torch.trace(S2.inverse() @ S1) + m @ m - len(m) + torch.log(S2.det() / S1.det()))


@wrong("scores.kl_gauss", "not 1 / S2 number by number")
def kl_gauss_elementwise(m1, S1, m2, S2):
    P, m = 1 / S2, m2 - m1
    return 0.5 * (torch.trace(P @ S1) + m @ P @ m - len(m) + torch.log(S2.det() / S1.det()))


@wrong("scores.kl_gauss", "subtract d, the number of dimensions")
def kl_gauss_minus_one(m1, S1, m2, S2):
    P, m = S2.inverse(), m2 - m1
    return 0.5 * (torch.trace(P @ S1) + m @ P @ m - 1 + torch.log(S2.det() / S1.det()))


# ---- scores.kid -------------------------------------------------------------------------------

def _cubic(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3


@wrong("scores.kid", "diagonal is still there")
def kid_biased(x, y):
    return _cubic(x, x).mean() + _cubic(y, y).mean() - 2 * _cubic(x, y).mean()


@wrong("scores.kid", "not divided by d")
def kid_no_d(x, y):
    k = lambda a, b: (a @ b.T + 1) ** 3
    off = lambda z: k(z, z)[~torch.eye(len(z), dtype=torch.bool)].mean()
    return off(x) + off(y) - 2 * k(x, y).mean()


@wrong("scores.kid", "no error")
def kid_clipped(x, y):
    off = lambda z: _cubic(z, z)[~torch.eye(len(z), dtype=torch.bool)].mean()
    return torch.relu(off(x) + off(y) - 2 * _cubic(x, y).mean())


@wrong("scores.kid", "no root")
def kid_root(x, y):
    off = lambda z: _cubic(z, z)[~torch.eye(len(z), dtype=torch.bool)].mean()
    return (off(x) + off(y) - 2 * _cubic(x, y).mean()) ** 0.5


@right("scores.kid")
def kid_off_diagonal(x, y):
    off = lambda z: _cubic(z, z)[~torch.eye(len(z), dtype=torch.bool)].mean()
    return off(x) + off(y) - 2 * _cubic(x, y).mean()


@right("scores.kid")
def kid_loops(x, y):
    k = lambda a, b: (torch.dot(a, b) / len(a) + 1) ** 3
    def off(z):
        n = len(z)
        return sum(k(z[i], z[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return off(x) + off(y) - 2 * sum(k(a, b) for a in x for b in y) / len(x) / len(y)


@wrong("scores.kid", "n (n - 1) pairs remain, not n^2")
def kid_n_squared(x, y):
    off = lambda K: (K.sum() - K.diag().sum()) / K.numel()
    return off(_cubic(x, x)) + off(_cubic(y, y)) - 2 * _cubic(x, y).mean()


@wrong("scores.kid", "between the sets no sample meets itself")
def kid_no_cross_diagonal(x, y):
    off = lambda K: K[~torch.eye(*K.shape, dtype=torch.bool)].mean()
    return off(_cubic(x, x)) + off(_cubic(y, y)) - 2 * off(_cubic(x, y))


@right("scores.kid")
def kid_of_blocks(x, y):
    return sum(map(kid_off_diagonal, x.chunk(2), y.chunk(2))) / 2


# ---- scores.clip_loss -------------------------------------------------------------------------

@wrong("scores.clip_loss", "normalise first")
def clip_loss_raw(pictures, texts, scale):
    logits, i = scale * pictures @ texts.T, torch.arange(len(texts))
    return (F.cross_entropy(logits, i) + F.cross_entropy(logits.T, i)) / 2


@wrong("scores.clip_loss", "upside down")
def clip_loss_divided(pictures, texts, scale):
    logits, i = F.cosine_similarity(pictures[:, None], texts, dim=2) / scale, torch.arange(len(texts))
    return (F.cross_entropy(logits, i) + F.cross_entropy(logits.T, i)) / 2


@wrong("scores.clip_loss", "texts must find their pictures")
def clip_loss_one_way(pictures, texts, scale):
    logits = scale * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    return F.cross_entropy(logits, torch.arange(len(logits)))


@wrong("scores.clip_loss", "softmax is taken twice")
def clip_loss_softmax(pictures, texts, scale):
    logits = scale * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    i = torch.arange(len(logits))
    return (F.cross_entropy(logits.softmax(1), i) + F.cross_entropy(logits.T.softmax(1), i)) / 2


@right("scores.clip_loss")
def clip_loss_logsumexp(pictures, texts, scale):
    u, v = (z / z.norm(dim=1, keepdim=True) for z in (pictures, texts))
    logits = scale * u @ v.T
    return (0.5 * (logits.logsumexp(0) + logits.logsumexp(1)) - logits.diag()).mean()


@right("scores.clip_loss")
def clip_loss_log_softmax(pictures, texts, scale):
    logits = scale * F.cosine_similarity(pictures[:, None], texts[None], dim=-1)
    return -(logits.log_softmax(0).trace() + logits.log_softmax(1).trace()) / (2 * len(logits))


@wrong("scores.clip_loss", "the two directions are summed")
def clip_loss_summed(pictures, texts, scale):
    logits = scale * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    i = torch.arange(len(logits))
    return F.cross_entropy(logits, i) + F.cross_entropy(logits.T, i)


# ---- scores.recall_at_k -----------------------------------------------------------------------

@wrong("scores.recall_at_k", "only the diagonal counts")
def recall_diagonal(sim, labels, k):
    best = sim.argsort(dim=1, descending=True)[:, :k]
    return (best == torch.arange(len(sim))[:, None]).any(1).float().mean()


@wrong("scores.recall_at_k", "axes are swapped")
def recall_columns(sim, labels, k):
    best = sim.argsort(dim=0, descending=True)[:k].T
    return (labels[best] == labels[:, None]).any(1).float().mean()


@wrong("scores.recall_at_k", "k lowest")
def recall_lowest(sim, labels, k):
    best = sim.argsort(dim=1)[:, :k]
    return (labels[best] == labels[:, None]).any(1).float().mean()


@wrong("scores.recall_at_k", "that is a count")
def recall_count(sim, labels, k):
    best = sim.argsort(dim=1, descending=True)[:, :k]
    return (labels[best] == labels[:, None]).any(1).float().sum()


@right("scores.recall_at_k")
def recall_by_rank(sim, labels, k):
    same = labels[:, None] == labels
    best = sim.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    return ((sim > best).sum(1) < k).double().mean()


@right("scores.recall_at_k")
def recall_loops(sim, labels, k):
    hits = [any(labels[j] == labels[i] for j in sorted(range(len(sim)), key=lambda j: -sim[i, j])[:k])
            for i in range(len(sim))]
    return torch.tensor(sum(hits) / len(hits))


@wrong("scores.recall_at_k", "numbers of texts, not their labels")
def recall_index_for_label(sim, labels, k):
    return (sim.topk(k, dim=1).indices == labels[:, None]).any(1).float().mean()


@wrong("scores.recall_at_k", "100 times what is expected")
def recall_percent(sim, labels, k):
    return 100 * (labels[sim.topk(k, dim=1).indices] == labels[:, None]).any(1).float().mean()


@right("scores.recall_at_k")
def recall_python_float(sim, labels, k):
    hits = [labels[i] in labels[row.argsort(descending=True)[:k]] for i, row in enumerate(sim)]
    return sum(hits) / len(hits)


# ---- tokens.joint_sequence --------------------------------------------------------------------

def shifted(s):
    return s[:, :-1], s[:, 1:]


@wrong("tokens.joint_sequence", "word 5 and patch 5 collide")
def joint_no_offset(text, picture, V):
    return shifted(torch.cat([text, picture], 1))


@wrong("tokens.joint_sequence", "word 5 and patch 5 collide")
def joint_offset_for_all(text, picture, V):
    return shifted(torch.cat([text, picture], 1) + V)


@wrong("tokens.joint_sequence", "copies its input")
def joint_unshifted(text, picture, V):
    s = torch.cat([text, V + picture], 1)
    return s, s


@wrong("tokens.joint_sequence", "the one before")
def joint_backwards(text, picture, V):
    s = torch.cat([text, V + picture], 1)
    return s[:, 1:], s[:, :-1]


@wrong("tokens.joint_sequence", "before the text is read")
def joint_picture_first(text, picture, V):
    return shifted(torch.cat([picture + V, text], 1))


@wrong("tokens.joint_sequence", "depends on the batch")
def joint_by_batch(text, picture, V):
    return shifted(torch.cat([text, picture + text.max() + 1], 1))


@wrong("tokens.joint_sequence", "depends on the batch")
def joint_mirrored_by_batch(text, picture, V):
    return shifted(torch.cat([text + picture.max() + 1, picture], 1))


@wrong("tokens.joint_sequence", "holds 13 where 17 is expected")  # the last words and first tokens collide
def joint_too_near(text, picture, V):
    return shifted(torch.cat([text, picture + V - 4], 1))


@right("tokens.joint_sequence")
def joint_mirrored(text, picture, V):
    return shifted(torch.cat([text + 875, picture], 1))  # 875 tokens, as our codebook has


@right("tokens.joint_sequence")
def joint_backwards_ids(text, picture, V):
    return shifted(torch.cat([text, 1000 - picture], 1))


@right("tokens.joint_sequence")
def joint_lists(text, picture, V):
    rows = [t + [V + i for i in p] for t, p in zip(text.tolist(), picture.tolist(), strict=True)]
    return [row[:-1] for row in rows], [row[1:] for row in rows]


@right("tokens.joint_sequence")
def joint_padded(text, picture, V):
    s = F.pad(text, (0, picture.shape[1]))
    s[:, text.shape[1]:] = picture + V
    return s[:, :-1], s.roll(-1, 1)[:, :-1]


# ---- tokens.sample_token ----------------------------------------------------------------------

def cut(logits, temperature, k, allowed):
    z = logits.masked_fill(~allowed, -torch.inf) / temperature
    return z.masked_fill(z < z.topk(k).values[:, -1:], -torch.inf)


def drawn(p, gen):
    return torch.multinomial(p, 1, generator=gen)[:, 0]


def by_sums(p, gen):
    return (p.cumsum(1) < torch.rand(len(p), 1, generator=gen)).sum(1)


@wrong("tokens.sample_token", "one id for each row")
def token_two_axes(logits, temperature, k, allowed, gen):
    return torch.multinomial(cut(logits, temperature, k, allowed).softmax(1), 1, generator=gen)


@wrong("tokens.sample_token", "always takes the likeliest")
def token_argmax(logits, temperature, k, allowed, gen):
    return cut(logits, temperature, k, allowed).argmax(1)


@wrong("tokens.sample_token", "two runs with the same seed differ")
def token_without_gen(logits, temperature, k, allowed, gen):
    return torch.distributions.Categorical(logits=cut(logits, temperature, k, allowed)).sample()


@wrong("tokens.sample_token", "one draw for the whole batch")
def token_first_row(logits, temperature, k, allowed, gen):
    return drawn(cut(logits[:1], temperature, k, allowed).softmax(1), gen).expand(len(logits))


@wrong("tokens.sample_token", "the seed of gen changes nothing")
def token_own_seed(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, temperature, k, allowed).softmax(1), torch.Generator().manual_seed(3))


@wrong("tokens.sample_token", "not the id")
def token_place_of_k(logits, temperature, k, allowed, gen):
    return drawn((logits.masked_fill(~allowed, -torch.inf).topk(k).values / temperature).softmax(1), gen)


@wrong("tokens.sample_token", "not the id")
def token_place_of_allowed(logits, temperature, k, allowed, gen):
    return drawn(cut(logits[:, allowed], temperature, k, allowed[allowed]).softmax(1), gen)


@wrong("tokens.sample_token", "divide by their sum")
def token_not_renormalised(logits, temperature, k, allowed, gen):
    p = (logits.masked_fill(~allowed, -torch.inf) / temperature).softmax(1)
    return by_sums(p * (p >= p.topk(k).values[:, -1:]), gen).clamp(max=logits.shape[1] - 1)


@wrong("tokens.sample_token", "divide by their sum")
def token_searchsorted(logits, temperature, k, allowed, gen):
    p = (logits.masked_fill(~allowed, -torch.inf) / temperature).softmax(1)
    p = p * (p >= p.topk(k).values[:, -1:])
    return torch.searchsorted(p.cumsum(1), torch.rand(len(p), 1, generator=gen))[:, 0]


@wrong("tokens.sample_token", "divide by their sum")
def token_first_above(logits, temperature, k, allowed, gen):
    p = (logits.masked_fill(~allowed, -torch.inf) / temperature).softmax(1)
    p = p * (p >= p.topk(k).values[:, -1:])
    return (p.cumsum(1) > torch.rand(len(p), 1, generator=gen)).int().argmax(1)


@wrong("tokens.sample_token", "the cut comes before the mask")
def token_mask_late(logits, temperature, k, allowed, gen):
    z = cut(logits, temperature, k, torch.ones_like(allowed)).masked_fill(~allowed, -torch.inf)
    return drawn(z.softmax(1), gen)


@wrong("tokens.sample_token", "words are drawn in a picture's place")
def token_words(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, temperature, k, torch.ones_like(allowed)).softmax(1), gen)


@wrong("tokens.sample_token", "words are drawn in a picture's place")
def token_inverted(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, temperature, k, ~allowed).softmax(1), gen)


@wrong("tokens.sample_token", "words are drawn in a picture's place")
def token_logit_0(logits, temperature, k, allowed, gen):
    z = logits.masked_fill(~allowed, -torch.inf) / temperature
    return drawn((logits / temperature * (z >= z.topk(k).values[:, -1:])).softmax(1), gen)


@wrong("tokens.sample_token", "beyond the k likeliest")
def token_all(logits, temperature, k, allowed, gen):
    return drawn((logits.masked_fill(~allowed, -torch.inf) / temperature).softmax(1), gen)


@wrong("tokens.sample_token", "beyond the k likeliest")
def token_one_more(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, temperature, k + 1, allowed).softmax(1), gen)


@wrong("tokens.sample_token", "drawn alike")
def token_uniform(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, temperature, k, allowed).isfinite().float(), gen)


@wrong("tokens.sample_token", "multiplies by the temperature")
def token_times(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, 1 / temperature, k, allowed).softmax(1), gen)


@wrong("tokens.sample_token", "the temperature has no effect")
def token_divides_chances(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, 1.0, k, allowed).softmax(1) / temperature, gen)


@wrong("tokens.sample_token", "the chances are off")
def token_root(logits, temperature, k, allowed, gen):
    return drawn(cut(logits, temperature**2, k, allowed).softmax(1), gen)


@wrong("tokens.sample_token", "the chances are off")
def token_one_row_for_all(logits, temperature, k, allowed, gen):
    return torch.multinomial(cut(logits[:1], temperature, k, allowed).softmax(1)[0], len(logits), True,
                             generator=gen)


@right("tokens.sample_token")
def token_gumbel(logits, temperature, k, allowed, gen):
    u = torch.rand(logits.shape, generator=gen).clamp(1e-9, 1 - 1e-7)
    return (cut(logits, temperature, k, allowed) - (-u.log()).log()).argmax(1)


@right("tokens.sample_token")
def token_exponential_race(logits, temperature, k, allowed, gen):
    p = cut(logits, temperature, k, allowed).softmax(1)
    return (p / torch.empty_like(p).exponential_(generator=gen)).argmax(1)


@right("tokens.sample_token")
def token_running_sums(logits, temperature, k, allowed, gen):
    p = cut(logits, temperature, k, allowed).exp()
    return by_sums(p / p.sum(1, keepdim=True), gen)


@right("tokens.sample_token")
def token_unnormalised_weights(logits, temperature, k, allowed, gen):
    p = (logits.double().masked_fill(~allowed, -torch.inf) / temperature).softmax(1)
    return drawn(p * (p >= p.topk(k).values[:, -1:]), gen)  # multinomial divides by the sum


@right("tokens.sample_token")
def token_among_allowed(logits, temperature, k, allowed, gen):
    ids = allowed.nonzero()[:, 0]
    return ids[drawn(cut(logits[:, ids], temperature, k, allowed[ids]).softmax(1), gen)].tolist()


# ---- tokens.quantise --------------------------------------------------------------------------

def looked_up(tokens, z, codebook):
    return tokens, z + (codebook[tokens] - z).detach()


@wrong("tokens.quantise", "the farthest entry")
def vq_farthest(z, codebook):
    return looked_up(torch.cdist(z, codebook[None]).argmax(-1), z, codebook)


@wrong("tokens.quantise", "a dot product is not a distance")
def vq_dot(z, codebook):
    return looked_up(torch.einsum("bnd,kd->bnk", z, codebook).argmax(-1), z, codebook)


@wrong("tokens.quantise", "directions only")
def vq_cosine(z, codebook):
    return looked_up(F.cosine_similarity(z[:, :, None], codebook, dim=-1).argmax(-1), z, codebook)


@wrong("tokens.quantise", "absolute differences")
def vq_l1(z, codebook):
    return looked_up(torch.cdist(z, codebook[None], p=1).argmin(-1), z, codebook)


@wrong("tokens.quantise", "the axes are swapped")
def vq_axes(z, codebook):
    return looked_up(torch.cdist(z, codebook[None]).argmin(1), z, codebook)


@wrong("tokens.quantise", "the encoder's gradient is 0")
def vq_no_gradient(z, codebook):
    tokens = torch.cdist(z, codebook[None]).argmin(-1)
    return tokens, codebook[tokens]


@wrong("tokens.quantise", "the encoder's gradient is 0")
def vq_not_detached(z, codebook):
    tokens, e = vq_no_gradient(z, codebook)
    return tokens, z + (e - z)


@wrong("tokens.quantise", "a factor of 1")
def vq_half_gradient(z, codebook):
    tokens, e = vq_no_gradient(z, codebook)
    return tokens, 0.5 * z + (e - 0.5 * z).detach()


@wrong("tokens.quantise", "it returns 1 results, expected 2")
def vq_only_vectors(z, codebook):
    return looked_up(torch.cdist(z, codebook[None]).argmin(-1), z, codebook)[1]


@right("tokens.quantise")
def vq_cdist(z, codebook):
    return looked_up(torch.cdist(z.flatten(0, 1), codebook).argmin(1).view(z.shape[:2]), z, codebook)


@right("tokens.quantise")
def vq_trains_the_codebook(z, codebook):
    tokens, e = vq_no_gradient(z, codebook)
    return tokens, e + z - z.detach()


@right("tokens.quantise")
def vq_half_squares(z, codebook):
    tokens = (z @ codebook.T - codebook.square().sum(1) / 2).argmax(-1)
    return tokens.int(), (F.one_hot(tokens, len(codebook)).to(z) @ codebook - z).detach() + z


@right("tokens.quantise")
def vq_loop(z, codebook):
    tokens = torch.tensor([[min(range(len(codebook)), key=lambda k: (v - codebook[k]).norm()) for v in row]
                           for row in z])
    return looked_up(tokens, z, codebook)


# ---- embeddings.best_of_k ---------------------------------------------------------------------

def own_cosines(pictures, texts, k):
    return torch.einsum("nkd,nd->nk", F.normalize(pictures, dim=1).view(len(texts), k, -1), texts)


@wrong("embeddings.best_of_k", "the worst of k")
def best_smallest(pictures, texts, k):
    return own_cosines(pictures, texts, k).argmin(1) + k * torch.arange(len(texts))


@wrong("embeddings.best_of_k", "not normalised")
def best_by_dot(pictures, texts, k):
    suits = (pictures.view(-1, k, texts.shape[1]) * texts[:, None]).sum(2)
    return suits.argmax(1) + k * torch.arange(len(texts))


@wrong("embeddings.best_of_k", "repeat gives 1, 2, 1, 2")
def best_repeat(pictures, texts, k):
    suits = F.cosine_similarity(pictures, texts.repeat(k, 1)).view(-1, k)
    return suits.argmax(1) + k * torch.arange(len(texts))


@wrong("embeddings.best_of_k", "not view(k, N)")
def best_view(pictures, texts, k):
    suits = F.cosine_similarity(pictures, texts.repeat_interleave(k, 0)).view(k, -1)
    return suits.argmax(0) + k * torch.arange(len(texts))


@wrong("embeddings.best_of_k", "one choice for the whole batch")
def best_of_all(pictures, texts, k):
    return own_cosines(pictures, F.normalize(texts, dim=1), k).argmax()


@wrong("embeddings.best_of_k", "add i k")
def best_place(pictures, texts, k):
    return own_cosines(pictures, texts, k).argmax(1)


@wrong("embeddings.best_of_k", "its own k only")
def best_among_all(pictures, texts, k):
    return (texts @ F.normalize(pictures, dim=1).T).argmax(1)


@right("embeddings.best_of_k")
def best_chunks(pictures, texts, k):
    return [i * k + F.cosine_similarity(part, text[None]).argmax()
            for i, (part, text) in enumerate(zip(pictures.split(k), texts, strict=True))]


@right("embeddings.best_of_k")
def best_masked_matrix(pictures, texts, k):
    cosine = F.normalize(texts, dim=1) @ F.normalize(pictures, dim=1).T
    own = torch.arange(len(pictures)) // k == torch.arange(len(texts))[:, None]
    return cosine.masked_fill(~own, -2).argmax(1)


@right("embeddings.best_of_k")
def best_text_not_normalised(pictures, texts, k):
    return own_cosines(pictures, texts, k).argmax(1) + k * torch.arange(len(texts))


# ---- embeddings.text_plus_gap -----------------------------------------------------------------

@wrong("embeddings.text_plus_gap", "the wrong sign")
def gap_sign(texts, train_pictures, train_texts):
    return F.normalize(texts + train_texts.mean(0) - train_pictures.mean(0), dim=1)


@wrong("embeddings.text_plus_gap", "only met unit vectors")
def gap_not_unit(texts, train_pictures, train_texts):
    return texts + (train_pictures - train_texts).mean(0)


@wrong("embeddings.text_plus_gap", "a gap for each pair")
def gap_each_pair(texts, train_pictures, train_texts):
    return F.normalize(texts + (train_pictures - train_texts), dim=1)


@wrong("embeddings.text_plus_gap", "a difference of two means")
def gap_pictures_only(texts, train_pictures, train_texts):
    return F.normalize(texts + train_pictures.mean(0), dim=1)


@wrong("embeddings.text_plus_gap", "on the training pairs")
def gap_of_batch(texts, train_pictures, train_texts):
    return F.normalize(texts - texts.mean(0) + train_pictures.mean(0), dim=1)


@wrong("embeddings.text_plus_gap", "stretched to length 1")
def gap_unit(texts, train_pictures, train_texts):
    gap = (train_pictures - train_texts).mean(0)
    return F.normalize(texts + gap / gap.norm(), dim=1)


@wrong("embeddings.text_plus_gap", "one number for all d")
def gap_number(texts, train_pictures, train_texts):
    return F.normalize(texts + train_pictures.mean() - train_texts.mean(), dim=1)


@right("embeddings.text_plus_gap")
def gap_two_means(texts, train_pictures, train_texts):
    moved = texts + train_pictures.mean(0) - train_texts.mean(0)
    return moved / moved.norm(dim=1, keepdim=True)


@right("embeddings.text_plus_gap")
def gap_numpy(texts, train_pictures, train_texts):
    moved = texts.numpy() + np.mean(train_pictures.numpy() - train_texts.numpy(), 0)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


# ---- imagen.dynamic_threshold -----------------------------------------------------------------

def sizes(x0):
    return x0.flatten(1).abs()


@wrong("imagen.dynamic_threshold", "one quantile for the whole batch")
def dyn_batch(x0, q):
    c = torch.quantile(x0.abs(), q).clamp(min=1)
    return x0.clamp(-c, c) / c


@wrong("imagen.dynamic_threshold", "stretches dull pictures")
def dyn_no_max(x0, q):
    c = col(torch.quantile(sizes(x0), q, dim=1))
    return x0.clamp(-c, c) / c


@wrong("imagen.dynamic_threshold", "what is far too dark")
def dyn_signed(x0, q):
    c = col(torch.quantile(x0.flatten(1), q, dim=1)).clamp(min=1)
    return x0.clamp(-c, c) / c


@wrong("imagen.dynamic_threshold", "divides without clipping")
def dyn_unclipped(x0, q):
    return x0 / col(torch.quantile(sizes(x0), q, dim=1)).clamp(min=1)


@wrong("imagen.dynamic_threshold", "does not divide")
def dyn_undivided(x0, q):
    c = col(torch.quantile(sizes(x0), q, dim=1)).clamp(min=1)
    return x0.clamp(-c, c)


@wrong("imagen.dynamic_threshold", "static thresholding")
def dyn_static(x0, q):
    return x0.clamp(-1, 1)


@wrong("imagen.dynamic_threshold", "contrast is lost")
def dyn_clips_at_1(x0, q):
    return x0.clamp(-1, 1) / col(torch.quantile(sizes(x0), q, dim=1)).clamp(min=1)


@wrong("imagen.dynamic_threshold", "the largest pixel")
def dyn_largest(x0, q):
    return x0 / col(sizes(x0).amax(1)).clamp(min=1)


@wrong("imagen.dynamic_threshold", "changes the colours")
def dyn_channels(x0, q):
    c = torch.quantile(x0.flatten(2).abs(), q, dim=2).clamp(min=1)[..., None, None]
    return (x0 / c).clamp(-1, 1)


@right("imagen.dynamic_threshold")
def dyn_sorted(x0, q):
    size = sizes(x0).sort(1).values
    c = col(size[:, int(q * size.shape[1])]).clamp(min=1)
    return (x0 / c).clamp(-1, 1)


@right("imagen.dynamic_threshold")
def dyn_lower(x0, q):
    c = col(torch.quantile(sizes(x0), q, dim=1, interpolation="lower")).clamp(min=1)
    return x0.clamp(-c, c) / c


@right("imagen.dynamic_threshold")
def dyn_kthvalue(x0, q):
    c = col(sizes(x0).kthvalue(math.ceil(q * x0[0].numel()), dim=1).values)
    c = torch.maximum(c, torch.ones_like(c))
    return torch.minimum(torch.maximum(x0, -c), c) / c


@right("imagen.dynamic_threshold")
def dyn_numpy(x0, q):
    c = np.maximum(np.quantile(np.abs(x0.numpy()), q, axis=(1, 2, 3), keepdims=True), 1)
    return np.clip(x0.numpy(), -c, c) / c


# ---- imagen.enlarger_loss ---------------------------------------------------------------------

def small_of(x):
    return F.interpolate(x, scale_factor=0.25, mode="area")


def flawed(x, level, eps):
    return (1 - col(level)**2).sqrt() * small_of(x) + col(level) * eps


@wrong("imagen.enlarger_loss", "without shrinking the signal")
def enlarge_only_adds(loss, x, level, eps):
    return loss(x, small_of(x) + col(level) * eps, level)


@wrong("imagen.enlarger_loss", "not a + s = 1")
def enlarge_sum_to_one(loss, x, level, eps):
    return loss(x, torch.lerp(small_of(x), eps, col(level)), level)


@wrong("imagen.enlarger_loss", "one level for the whole batch")
def enlarge_one_level(loss, x, level, eps):
    one = level[:1].expand(len(x))
    return loss(x, flawed(x, one, eps), one)


@wrong("imagen.enlarger_loss", "one level for the whole batch")
def enlarge_told_the_mean(loss, x, level, eps):
    return loss(x, flawed(x, level, eps), level.mean())


@wrong("imagen.enlarger_loss", "not given to the network")
def enlarge_not_told(loss, x, level, eps):
    return loss(x, flawed(x, level, eps))


@wrong("imagen.enlarger_loss", "small pictures that are perfect")
def enlarge_clean(loss, x, level, eps):
    return loss(x, small_of(x), level)


@wrong("imagen.enlarger_loss", "the share of the signal")
def enlarge_told_the_signal(loss, x, level, eps):
    return loss(x, flawed(x, level, eps), (1 - level**2).sqrt())


@wrong("imagen.enlarger_loss", "exchanged")
def enlarge_exchanged(loss, x, level, eps):
    return loss(flawed(x, level, eps), x, level)


@wrong("imagen.enlarger_loss", "one pixel of 16")
def enlarge_aliased(loss, x, level, eps):
    small = F.interpolate(x, scale_factor=0.25)
    return loss(x, (1 - col(level)**2).sqrt() * small + col(level) * eps, level)


@wrong("imagen.enlarger_loss", "no gradient reaches the network")
def enlarge_item(loss, x, level, eps):
    return loss(x, flawed(x, level, eps), level).item()


@right("imagen.enlarger_loss")
def enlarge_named(loss, x, level, eps):
    return loss(aug_level=level, low_res=flawed(x, level, eps), x_0=x)


@right("imagen.enlarger_loss")
def enlarge_angle(loss, x, level, eps):
    B, C, S, _ = x.shape
    small = x.reshape(B, C, S // 4, 4, S // 4, 4).mean((3, 5))
    angle = torch.arcsin(col(level))
    return loss(x, angle.cos() * small + angle.sin() * eps, level)


# ---- imagen.cascade ---------------------------------------------------------------------------

@wrong("imagen.cascade", "is not told the text")
def cascade_no_text(base, damage, enlarger, texts, level):
    return enlarger(damage(base(texts).clamp(-1, 1), level), level).clamp(-1, 1)


@wrong("imagen.cascade", "is not told the text")
def cascade_empty_texts(base, damage, enlarger, texts, level):
    return enlarger(damage(base(texts).clamp(-1, 1), level), level, ["" for _ in texts]).clamp(-1, 1)


@wrong("imagen.cascade", "met no such picture in training")
def cascade_unclamped(base, damage, enlarger, texts, level):
    return enlarger(damage(base(texts), level), level, texts).clamp(-1, 1)


@wrong("imagen.cascade", "the noise is clipped as well")
def cascade_clamps_late(base, damage, enlarger, texts, level):
    return enlarger(damage(base(texts), level).clamp(-1, 1), level, texts).clamp(-1, 1)


@wrong("imagen.cascade", "noise that is not there")
def cascade_undamaged(base, damage, enlarger, texts, level):
    return enlarger(base(texts).clamp(-1, 1), level, texts).clamp(-1, 1)


@wrong("imagen.cascade", "that nothing is damaged")
def cascade_told_0(base, damage, enlarger, texts, level):
    return enlarger(damage(base(texts).clamp(-1, 1), level), 0.0, texts).clamp(-1, 1)


@wrong("imagen.cascade", "the large picture is not held")
def cascade_open_end(base, damage, enlarger, texts, level):
    return enlarger(damage(base(texts).clamp(-1, 1), level), level, texts)


@wrong("imagen.cascade", "enlarge it")
def cascade_small(base, damage, enlarger, texts, level):
    return base(texts).clamp(-1, 1)


@right("imagen.cascade")
def cascade_one_by_one(base, damage, enlarger, texts, level):
    small = torch.stack([x.clamp(-1, 1) for x in base(texts)])
    large = enlarger(low_res=damage(small=small, level=level), level=level, texts=texts)
    return torch.stack([x.clamp(-1, 1) for x in large])


@right("imagen.cascade")
def cascade_clips(base, damage, enlarger, texts, level):
    small = torch.clip(base(list(texts)), -1.0, 1.0)
    return torch.minimum(enlarger(damage(small, level), level, texts), torch.ones(())).clamp(min=-1).numpy()


# ---- scoreboard.fair_score --------------------------------------------------------------------

def concept_means(mark, concept):
    return torch.stack([mark[concept == c].mean() for c in set(concept.tolist())])


@wrong("scoreboard.fair_score", "the judge chooses for itself")
def fair_judge_chooses(ranker, judge, concept):
    return concept_means(judge.max(1).values, concept).mean()


@wrong("scoreboard.fair_score", "the ranker marks its own choice")
def fair_ranker_marks(ranker, judge, concept):
    return concept_means(ranker.max(1).values, concept).mean()


@wrong("scoreboard.fair_score", "the roles are exchanged")
def fair_exchanged(ranker, judge, concept):
    return concept_means(ranker[torch.arange(len(judge)), judge.argmax(1)], concept).mean()


@wrong("scoreboard.fair_score", "nothing is chosen")
def fair_best_of_1(ranker, judge, concept):
    return concept_means(judge.mean(1), concept).mean()


@wrong("scoreboard.fair_score", "every prompt counts the same")
def fair_over_prompts(ranker, judge, concept):
    return judge[torch.arange(len(judge)), ranker.argmax(1)].mean()


@wrong("scoreboard.fair_score", "one picture a concept")
def fair_one_a_concept(ranker, judge, concept):
    rows = [(concept == c).nonzero()[:, 0] for c in concept.unique()]
    return sum(judge[i].flatten()[ranker[i].argmax()] for i in rows) / len(rows)


@wrong("scoreboard.fair_score", "concepts without a prompt count as 0")
def fair_absent(ranker, judge, concept):
    mark, n = judge[torch.arange(len(judge)), ranker.argmax(1)], int(concept.max()) + 1
    counts = torch.bincount(concept, minlength=n).clamp(min=1)
    return (torch.bincount(concept, mark, minlength=n) / counts).mean()


@right("scoreboard.fair_score")
def fair_bincount(ranker, judge, concept):
    mark, counts = judge[torch.arange(len(judge)), ranker.argmax(1)], torch.bincount(concept)
    return (torch.bincount(concept, mark) / counts)[counts > 0].mean()


@right("scoreboard.fair_score")
def fair_weights(ranker, judge, concept):
    _, which, counts = concept.unique(return_inverse=True, return_counts=True)
    best = ranker == ranker.amax(1, keepdim=True)
    return ((judge * best).sum(1) / counts[which]).sum() / len(counts)


@right("scoreboard.fair_score")
def fair_python(ranker, judge, concept):
    rows = {}
    for r, j, c in zip(ranker.tolist(), judge.tolist(), concept.tolist(), strict=True):
        rows.setdefault(c, []).append(j[r.index(max(r))])
    return sum(sum(v) / len(v) for v in rows.values()) / len(rows)


# ---- scoreboard.paired_ci ---------------------------------------------------------------------

def middle_95(means, tail=0.025):
    return means.quantile(tail), means.quantile(1 - tail)


def resampled(d, n, gen):
    return d[torch.randint(len(d), (n, len(d)), generator=gen)].mean(1)


@wrong("scoreboard.paired_ci", "NaN or infinite")
def ci_nan(a, b, n, gen):
    return middle_95(resampled((a - b).mean(1), n, gen) * torch.nan)


@wrong("scoreboard.paired_ci", "two runs with the same seed differ")
def ci_without_gen(a, b, n, gen):
    return middle_95(resampled((a - b).mean(1), n, None))


@wrong("scoreboard.paired_ci", "low lies above high")
def ci_high_low(a, b, n, gen):
    return middle_95(resampled((a - b).mean(1), n, gen))[::-1]


@wrong("scoreboard.paired_ci", "the difference is a - b")
def ci_sign(a, b, n, gen):
    return middle_95(resampled((b - a).mean(1), n, gen))


@wrong("scoreboard.paired_ci", "unpaired")
def ci_unpaired(a, b, n, gen):
    return middle_95(resampled(a.mean(1), n, gen) - resampled(b.mean(1), n, gen))


@wrong("scoreboard.paired_ci", "unpaired")
def ci_unpaired_pictures(a, b, n, gen):
    return middle_95(resampled(a.flatten(), n, gen) - resampled(b.flatten(), n, gen))


@wrong("scoreboard.paired_ci", "draw whole concepts")
def ci_pictures(a, b, n, gen):
    return middle_95(resampled((a - b).flatten(), n, gen))


@wrong("scoreboard.paired_ci", "draw whole concepts")
def ci_within_concepts(a, b, n, gen):
    d = a - b
    which = torch.randint(d.shape[1], (n, *d.shape), generator=gen)
    return middle_95(d.expand(n, -1, -1).gather(2, which).mean((1, 2)))


@wrong("scoreboard.paired_ci", "the spread of the concepts (sd)")
def ci_sd(a, b, n, gen):
    d = (a - b).mean(1)
    return d.mean() - 1.96 * d.std(), d.mean() + 1.96 * d.std()


@wrong("scoreboard.paired_ci", "the spread of the concepts (sd)")
def ci_quantiles_of_concepts(a, b, n, gen):
    return middle_95((a - b).mean(1))


@wrong("scoreboard.paired_ci", "resampling more makes nothing surer")
def ci_root_n(a, b, n, gen):
    means = resampled((a - b).mean(1), n, gen)
    return means.mean() - 1.96 * means.std() / n**0.5, means.mean() + 1.96 * means.std() / n**0.5


@wrong("scoreboard.paired_ci", "one standard error")
def ci_one_error(a, b, n, gen):
    means = resampled((a - b).mean(1), n, gen)
    return means.mean() - means.std(), means.mean() + means.std()


@wrong("scoreboard.paired_ci", "that is 90 %")
def ci_90(a, b, n, gen):
    return middle_95(resampled((a - b).mean(1), n, gen), 0.05)


@wrong("scoreboard.paired_ci", "the width is wrong")
def ci_99(a, b, n, gen):
    return middle_95(resampled((a - b).mean(1), n, gen), 0.005)


@wrong("scoreboard.paired_ci", "the middle must be near")
def ci_median(a, b, n, gen):
    low, high = middle_95(resampled((a - b).mean(1), n, gen))
    return low - (low + high) / 2, high - (low + high) / 2


@right("scoreboard.paired_ci")
def ci_jackknife(a, b, n, gen):
    d = (a - b).mean(1)
    without = (d.sum() - d) / (len(d) - 1)
    error = ((len(d) - 1) * (without - without.mean()).square().mean()).sqrt()
    return d.mean() - 1.96 * error, d.mean() + 1.96 * error


@right("scoreboard.paired_ci")
def ci_basic(a, b, n, gen):
    d = (a - b).mean(1)
    low, high = middle_95(resampled(d, n, gen))
    return 2 * d.mean() - high, 2 * d.mean() - low


@right("scoreboard.paired_ci")
def ci_same_rows(a, b, n, gen):
    rows = torch.randint(len(a), (n, len(a)), generator=gen)
    return middle_95(a[rows].mean((1, 2)) - b[rows].mean((1, 2)))


@right("scoreboard.paired_ci")
def ci_loop(a, b, n, gen):
    d, means = (a - b).mean(1), []
    for _ in range(n):
        means.append(float(d[torch.randint(len(d), (len(d),), generator=gen)].mean()))
    return sorted(means)[int(0.025 * n)], sorted(means)[int(0.975 * n)]


@right("scoreboard.paired_ci")
def ci_two_stages(a, b, n, gen):  # concepts, and then pictures of each: hardly wider where concepts differ
    d, C, m = a - b, *a.shape
    rows = torch.randint(C, (n, C, 1), generator=gen)
    return middle_95(d[rows, torch.randint(m, (n, C, m), generator=gen)].mean((1, 2)))


# ---- Slips of one symbol: with those above, every diagnosis is reached ---------------------------

def attend(scores, v, mask):
    return scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1) @ v


def loss_of(x_t, net, t, eps):
    return F.mse_loss(net(x_t, t), eps)


def with_sigma(mean, t, betas, z):
    return mean + betas[t].sqrt() * z if t > 1 else mean


def nats(each):
    return 0.5 * each.flatten(1).sum(1)


def off_diagonal(K):
    return K[~torch.eye(len(K), dtype=torch.bool)].mean()


def kid_with(x, y, k, cross=2):
    return off_diagonal(k(x, x)) + off_diagonal(k(y, y)) - cross * k(x, y).mean()


def clip_with(logits, shift=0, **options):
    i = torch.arange(len(logits)).roll(shift)
    return (F.cross_entropy(logits, i, **options) + F.cross_entropy(logits.T, i, **options)) / 2


def cosines(pictures, texts):
    return F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T


def roots_of(S1, S2):
    return torch.linalg.eigvals(S1 @ S2).real.clamp(min=0).sqrt()


def centred(z):
    return z - z.mean((0, 2, 3), keepdim=True)


def kl_terms(m1, S1, m2, S2):
    P, m = S2.inverse(), m2 - m1
    return (P @ S1).trace(), m @ P @ m, len(m), (S2.det() / S1.det()).log()


SHORT = {
    "conditioning.cross_attention": [
        ("not by d: the look", lambda q, k, v, mask: attend(q @ k.mT / q.shape[-1], v, mask)),
        ("adding 0 and 1", lambda q, k, v, mask: (
            q @ k.mT / q.shape[-1]**0.5 + 1.0 * mask[:, None]).softmax(-1) @ v),
        ("look at padding", lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v)),
        ("attends to padding", lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, ~mask[:, None])),
        ("sum to 1 over", lambda q, k, v, mask: (q @ k.mT).sigmoid() @ v),
    ],
    "conditioning.drop_captions": [
        ("gone from the batch", lambda ids, null, p, u: ids[u > p]),
        ("nothing is dropped", lambda ids, null, p, u: ids.clone()),
    ],
    "conditioning.cfg": [
        ("the wrong way round", lambda e0, ec, w: e0 - w * (ec - e0)),
        ("the start is missing", lambda e0, ec, w: (ec - e0) * w),
        ("eps_0 is not used", lambda e0, ec, w: ec * w),
    ],
    "forward.cosine_abar": [
        ("step T is missing", lambda T, s=0.008: (f_cos(T, s) / f_cos(T, s)[0])[:T]),
        ("pi / 2 is missing", lambda T, s=0.008: (lambda f: f / f[0])(
            torch.cos((torch.arange(T + 1) / T + s) / (1 + s)) ** 2)),
    ],
    "forward.forward_chain": [
        ("NaN or infinite", chain(lambda x, b, z: (b - 1).sqrt() * x + b.sqrt() * z)),
    ],
    "latents.make_pair": [
        ("the median", lambda x: (F.unfold(x, 4, stride=4).view(*x.shape[:2], 16, -1).median(2).values.view(
            *x.shape[:2], x.shape[2] // 4, -1), x)),
        ("the darkest", lambda x: (x.unfold(2, 4, 4).unfold(3, 4, 4).amin((4, 5)), x)),
        ("the brightest", lambda x: (x.unfold(2, 4, 4).unfold(3, 4, 4).amax((4, 5)), x)),
        ("that halves", lambda x: (F.interpolate(x, scale_factor=0.5, mode="area"), x)),
    ],
    "latents.damage": [
        ("not subtracted", lambda small, level, eps: col((1 - level**2).sqrt()) * small - col(level) * eps),
        ("eps is unused", lambda small, level, eps: col((1 - level**2).sqrt()) * small),
    ],
    "latents.kl_std_normal": [
        ("not added up", lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar)),
        ("leave out the halves", lambda mu, logvar: nats(
            mu**2 + (logvar / 2).exp() - 1 - logvar / 2)),
        ("the logarithm is missing", lambda mu, logvar: nats(mu**2 + logvar.exp() - 1)),
        ("subtracted, not added", lambda mu, logvar: nats(mu**2 + logvar.exp() - 1 + logvar)),
        ("e^logvar is missing", lambda mu, logvar: nats(mu**2 - 1 - logvar)),
        ("logvar as sigma^2", lambda mu, logvar: nats(mu**2 + logvar - 1 - torch.log(logvar))),
        ("mu enters squared", lambda mu, logvar: nats(mu + logvar.exp() - 1 - logvar)),
    ],
    "latents.reparam": [
        ("do not double", lambda mu, logvar, eps: mu + torch.exp(2 * logvar) * eps),
        ("sigma is missing", lambda mu, logvar, eps: mu + eps),
        ("not a draw", lambda mu, logvar, eps: 1 * mu),
    ],
    "latents.latent_scale": [
        ("per position", lambda z: (z - z.mean(0)) / z.std(0)),
        ("the spread is not", centred),
        ("multiply by the spread", lambda z: centred(z) * z.std((0, 2, 3), keepdim=True)),
        ("subtract the mean first", lambda z: (
            z / z.std((0, 2, 3), keepdim=True) - z.mean((0, 2, 3), keepdim=True))),
    ],
    "predictor.ddpm_loss": [
        ("missing on 1 - abar_t", lambda net, x0, t, eps, abar: loss_of(
            col(abar[t]).sqrt() * x0 + (1 - col(abar[t])) * eps, net, t, eps)),
        ("missing on abar_t", lambda net, x0, t, eps, abar: loss_of(
            col(abar[t]) * x0 + (1 - col(abar[t])).sqrt() * eps, net, t, eps)),
        ("is not shrunk", lambda net, x0, t, eps, abar: loss_of(
            x0 + (1 - col(abar[t])).sqrt() * eps, net, t, eps)),
        ("are swapped", lambda net, x0, t, eps, abar: loss_of(noisy(eps, t, x0, abar), net, t, eps)),
    ],
    "predictor.convert": [
        ("exchanged in v", lambda xt, eps, a, s: ((xt - s * eps) / a, s * eps - (xt - s * eps), -eps / s)),
        ("the centre of the cloud", lambda xt, eps, a, s: (
            (xt - s * eps) / a, (eps - s * xt) / a, ((xt - s * eps) / a - xt) / s**2)),
    ],
    "predictor.time_features": [
        ("NaN or infinite", lambda t, dim: torch.log(t[:, None] * torch.arange(dim))),
    ],
    "sampling.ddpm_step": [
        ("not by beta_t alone", lambda xt, e, t, b, ab, z: with_sigma(
            (xt - b[t] * e) / (1 - b[t]).sqrt(), t, b, z)),
        ("you shrink once more", lambda xt, e, t, b, ab, z: with_sigma(
            (xt - b[t] / (1 - ab[t]).sqrt() * e) * (1 - b[t]).sqrt(), t, b, z)),
        ("not (1 - beta_t) / s", lambda xt, e, t, b, ab, z: with_sigma(
            (xt - (1 - b[t]) / (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt(), t, b, z)),
        ("the noise is subtracted first", lambda xt, e, t, b, ab, z: with_sigma(
            xt / (1 - b[t]).sqrt() - b[t] / (1 - ab[t]).sqrt() * e, t, b, z)),
        ("a root is missing: all of it", lambda xt, e, t, b, ab, z: with_sigma(
            (xt - b[t] / (1 - ab[t]).sqrt() * e) / (1 - b[t]), t, b, z)),
        ("noise level of a whole x_t", lambda xt, e, t, b, ab, z: (
            xt - b[t] / (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt() + (1 - ab[t - 1]).sqrt() * z),
        ("ratio in sigma is upside down", lambda xt, e, t, b, ab, z: (
            xt - b[t] / (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt() + (
                (b[t] * (1 - ab[t]) / (1 - ab[t - 1])).sqrt() * z if t > 1 else 0)),
        ("an index slip", lambda xt, e, t, b, ab, z: (
            xt - b[t] / (1 - ab[t]).sqrt() * e) / (1 - b[t]).sqrt() + (b[t - 1].sqrt() * z if t > 1 else 0)),
    ],
    "sampling.ddim_step": [
        ("the noise enters scaled", lambda xt, e, t, r, eta, z: (
            ddim_without_x0(xt, e, t, r, eta, z) + r.sqrt() / t.sqrt() * ((1 - t).sqrt() - 1) * e)),
    ],
    "sampling.timesteps": [
        ("one list of times", lambda T, n: torch.linspace(T, 0, n + 1).round().long()[None]),
    ],
    "sampling.dpmpp_2m_step": [
        ("the wrong way round", lambda xt, x0, x0_prev, lam_prev, lam, lam_next, a, s, sn: (
            m2_with_h(xt, x0, x0_prev, lam_prev, lam, lam_next, a, s, sn) + (s / sn - sn / s) * xt)),
        ("must shrink, too", lambda xt, x0, x0_prev, lam_prev, lam, lam_next, a, s, sn: (
            m2_with_h(xt, x0, x0_prev, lam_prev, lam, lam_next, a, s, sn) + (1 - sn / s) * xt)),
        ("a_next is missing", lambda xt, x0, x0_prev, lam_prev, lam, lam_next, a, s, sn: (
            m2_with_h(xt, x0, x0_prev, lam_prev, lam, lam_next, torch.tensor(1.0), s, sn))),
    ],
    "scores.gaussian": [
        ("that is the correlation", lambda x: (x.mean(0), torch.corrcoef(x.T))),
        ("standard deviations", lambda x: (x.mean(0), x.std(0))),
    ],
    "scores.frechet": [
        ("do not average", lambda m1, S1, m2, S2: (
            F.mse_loss(m1, m2) + (S1 + S2).trace() - 2 * roots_of(S1, S2).sum())),
        ("the means are missing", lambda m1, S1, m2, S2: (S1 + S2).trace() - 2 * roots_of(S1, S2).sum()),
        ("the last term counts", lambda m1, S1, m2, S2: (
            (m1 - m2).square().sum() + (S1 + S2).trace() - roots_of(S1, S2).sum())),
        ("tr(S1 + S2) is missing", lambda m1, S1, m2, S2: (
            (m1 - m2).square().sum() - 2 * roots_of(S1, S2).sum())),
        ("one triangle", lambda m1, S1, m2, S2: (m1 - m2).square().sum() + (S1 + S2).trace() - 2 * (
            torch.linalg.eigvalsh(S1 @ S2).clamp(min=0).sqrt().sum())),
        ("root of each eigenvalue", lambda m1, S1, m2, S2: (
            (m1 - m2).square().sum() + (S1 + S2).trace() - 2 * (S1 @ S2).trace())),
        ("diagonal covariances", lambda m1, S1, m2, S2: (m1 - m2).square().sum() + (S1 - S2).square().sum()),
    ],
    "scores.kl_gauss": [
        ("log ratio of the determinants is", lambda *a: 0.5 * (
            kl_terms(*a)[0] + kl_terms(*a)[1] - kl_terms(*a)[2])),
        ("take the logarithm", lambda *a: (
            kl_gauss_cholesky(*a) + 0.5 * (kl_terms(*a)[3].exp() - kl_terms(*a)[3]))),
        ("factor 1/2 is missing", lambda *a: 2 * kl_gauss_cholesky(*a)),
        ("not of S1", lambda m1, S1, m2, S2: kl_gauss_cholesky(m1, S1, m2, S2) + 0.5 * (
            (m2 - m1) @ (S1.inverse() - S2.inverse()) @ (m2 - m1))),
        ("product of matrices", lambda m1, S1, m2, S2: kl_gauss_cholesky(m1, S1, m2, S2) + 0.5 * (
            S2.inverse() * S1 - S2.inverse() @ S1).trace()),
        ("missing in the trace", lambda m1, S1, m2, S2: kl_gauss_cholesky(m1, S1, m2, S2) + 0.5 * (
            S1 - S2.inverse() @ S1).trace()),
        ("the sign is wrong", lambda *a: -kl_gauss_cholesky(*a)),
    ],
    "scores.kid": [
        ("not by its root", lambda x, y: kid_with(x, y, lambda a, b: (a @ b.T / x.shape[1]**0.5 + 1) ** 3)),
        ("the kernel is cubic", lambda x, y: kid_with(x, y, lambda a, b: (a @ b.T / x.shape[1] + 1) ** 2)),
        ("the + 1", lambda x, y: kid_with(x, y, lambda a, b: (a @ b.T / x.shape[1]) ** 3)),
        ("counts twice", lambda x, y: kid_with(x, y, _cubic, 1)),
        ("between the sets is missing", lambda x, y: kid_with(x, y, _cubic, 0)),
        ("is subtracted", lambda x, y: kid_with(x, y, _cubic, -2)),
    ],
    "scores.clip_loss": [
        ("pictures must find", lambda u, v, scale: (
            F.cross_entropy(scale * cosines(v, u), torch.arange(len(u))))),
        ("not their sum", lambda u, v, scale: clip_with(scale * cosines(u, v), reduction="sum")),
        ("the scale is missing", lambda u, v, scale: clip_with(cosines(u, v))),
        ("targets are shifted", lambda u, v, scale: clip_with(scale * cosines(u, v), shift=-1)),
        ("not each feature", lambda u, v, scale: (
            clip_with(scale * F.normalize(u, dim=0) @ F.normalize(v, dim=0).T))),
    ],
    "scores.recall_at_k": [
        ("enough for a hit", lambda sim, labels, k: (
            labels[sim.topk(k).indices] == labels[:, None]).all(1).float().mean()),
    ],
    "tokens.joint_sequence": [
        ("the length of the text", lambda text, picture, V: shifted(
            torch.cat([text, picture + text.shape[1]], 1))),
        ("off by one", lambda text, picture, V: shifted(torch.cat([text, picture + V - 1], 1))),
        ("off by one", lambda text, picture, V: shifted(torch.cat([text, picture + V + 1], 1))),
        ("roll puts the first word", lambda text, picture, V: (
            torch.cat([text, picture + V], 1), torch.cat([text, picture + V], 1).roll(-1, 1))),
        ("one input too many", lambda text, picture, V: (
            torch.cat([text, picture + V], 1), torch.cat([text, picture + V], 1)[:, 1:])),
        ("the words are targets, too", lambda text, picture, V: (
            torch.cat([text, picture + V], 1)[:, :-1], picture + V)),
    ],
    "tokens.quantise": [
        ("the factor 2", lambda z, e: looked_up((e.square().sum(1) - z @ e.T).argmin(-1), z, e)),
        ("the sign of the product", lambda z, e: looked_up(
            (e.square().sum(1) + 2 * z @ e.T).argmin(-1), z, e)),
        ("still z", lambda z, e: (torch.cdist(z, e[None]).argmin(-1), z)),
    ],
    "embeddings.text_plus_gap": [
        ("not each feature", lambda v, pictures, texts: (
            F.normalize(v + (pictures - texts).mean(0), dim=0))),
        ("not moved", lambda v, pictures, texts: F.normalize(v, dim=1)),
    ],
    "imagen.dynamic_threshold": [
        ("at least 1: clamp(min=1)", lambda x0, q: (lambda c: x0.clamp(-c, c) / c)(
            col(torch.quantile(sizes(x0), q, dim=1)).clamp(max=1))),
    ],
    "scoreboard.fair_score": [
        ("the ranker's worst", lambda ranker, judge, concept: concept_means(
            judge[torch.arange(len(judge)), ranker.argmin(1)], concept).mean()),
        ("one place is chosen", lambda ranker, judge, concept: concept_means(
            judge[:, ranker.mean(0).argmax()], concept).mean()),
        ("added up", lambda ranker, judge, concept: concept_means(
            judge[torch.arange(len(judge)), ranker.argmax(1)], concept).sum()),
    ],
}
for name, rows in SHORT.items():
    for phrase, f in rows:
        wrong(name, phrase)(f)
