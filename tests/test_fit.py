"""Numbers of the training loop that a notebook does not name."""
import pytest
import torch
from torch import nn

from course_lib import muon, train
from course_lib.train import fit, learning_rate


def ones():
    while True:
        yield torch.ones(1, 1)


def test_a_long_run_warms_up_for_200_steps():
    assert learning_rate(100, 100_000, 1.0) == 0.5 and learning_rate(200, 100_000, 1.0) == 1.0
    assert 0.99 < learning_rate(400, 100_000, 1.0) < 1.0


def test_a_long_gradient_is_shortened_to_1(monkeypatch):
    model, found = nn.Linear(1, 1, bias=False), []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: found.append(model.weight.grad.item()))
    next(fit(model, lambda m, x: 50 * m(x).sum(), ones(), 1))
    assert found == [pytest.approx(1.0, rel=1e-5)]


def test_adam_forgets_squared_gradients_after_a_hundred_steps():
    """Not after a thousand, PyTorch's default: the runs of a notebook are no longer than that."""
    assert train._optimizer(nn.Linear(1, 1), 1e-3, False, False, False).defaults["betas"] == (0.9, 0.99)


def test_a_network_that_was_used_is_trained_as_one_in_training():
    """With its dropout on, though it was in eval mode."""
    model, seen = nn.Linear(1, 1).eval(), []
    next(fit(model, lambda m, x: seen.append(m.training) or m(x).sum(), ones(), 1))
    assert seen == [True]


# ---- Muon ------------------------------------------------------------------------------------------

def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (32, 32)])
def test_all_directions_of_a_matrix_become_equally_long(shape):
    u, s, v = torch.linalg.svd(random(*shape) * torch.logspace(0, -1, shape[1]), full_matrices=False)
    found = muon.orthogonal(u * s @ v)
    values = torch.linalg.svdvals(found)
    assert s[0] / s[-1] > 5 and values.min() > 0.5 and values.max() < 1.3
    torch.testing.assert_close(u.T @ found @ v.T, (u.T @ found @ v.T).diagonal().diag(), atol=1e-3, rtol=0)


def test_muon_turns_matrices_and_kernels_and_leaves_the_rest_to_adamw():
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16, 32), nn.LayerNorm(32),
                        nn.Linear(32, 4))
    others, matrices = train._optimizer(net, 1e-3, False, True, False).param_groups
    assert [id(p) for p in matrices["params"]] == [id(net[0].weight), id(net[2].weight)]
    assert len(others["params"]) == len(list(net.parameters())) - 2


def test_a_step_of_muon_is_that_of_torch():
    """torch.optim.Muon (from torch 2.9) with Adam's length of steps; both make their matrix with bfloat16."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    w, other = nn.Parameter(random(20, 30)), nn.Parameter(random(20, 30))
    mine = muon.Muon([w], [nn.Parameter(random(3))], 1e-2, dtype=torch.bfloat16)
    theirs = torch.optim.Muon([other], 1e-2, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        w.grad = random(20, 30, seed=step + 1)
        other.grad = w.grad.clone()
        mine.step()
        theirs.step()
    assert (w - other).norm() < 0.05 * (w - random(20, 30)).norm() > 0.005


def test_muon_moves_adamws_parameters_as_adamw_does():
    (a, b), w = (nn.Parameter(random(5)) for _ in range(2)), nn.Parameter(random(16, 16))
    both, alone = muon.Muon([w], [a], 1e-2), torch.optim.AdamW([b], 1e-2)
    for step in range(3):
        a.grad, b.grad, w.grad = random(5, seed=step), random(5, seed=step), random(16, 16, seed=step)
        both.step()
        alone.step()
    assert torch.equal(a, b)


def test_a_step_that_must_change_nothing_changes_nothing():
    w, b = nn.Parameter(random(16, 16)), nn.Parameter(random(3))
    optimizer = muon.Muon([w], [b], 1e-2, fused=True)
    for bad in (0.0, 1.0, 0.0):
        before = w.detach().clone(), b.detach().clone(), {k: v.clone() for k, v in optimizer.state[w].items()}
        w.grad, b.grad = random(16, 16), random(3)
        if bad:
            w.grad[0], b.grad[0] = torch.nan, torch.inf
        optimizer.found_inf = torch.tensor(bad)
        optimizer.step()
        assert w.isfinite().all() and b.isfinite().all()
        assert torch.equal(w, before[0]) == torch.equal(b, before[1]) == bool(bad)
        if bad:
            torch.testing.assert_close(optimizer.state[w]["momentum"], before[2]["momentum"])


def test_a_run_with_muon_goes_on_bit_for_bit():
    def run(resume=None, stop=6):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
        batches = iter(lambda: torch.randn(8, 16), None)
        loss = lambda m, x: (m(x) - x).square().mean()
        for tick in fit(net, loss, batches, 6, seed=0, resume=resume, muon=True):
            if tick.step == stop:
                return net.state_dict(), tick.state()
    straight, _ = run()
    _, state = run(stop=3)
    for k, v in run(resume=state)[0].items():
        assert torch.equal(v, straight[k]), k
