"""Random numbers: a generator of the CPU serves tensors on any device, with the same numbers."""
import pytest
import torch
from elsewhere import Elsewhere, There, here, there

from course_lib import rng
from course_lib.clusters import kmeans, unit_pca
from course_lib.denoiser import Pred
from course_lib.guidance import augment, clip_x0, drop
from course_lib.metrics import kid
from course_lib.samplers import ddim, ddpm, dpmpp_2m, draw, heun
from course_lib.schedules import DDPM, EDM, Cosine, Flow
from course_lib.toys import GaussianMixture


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cuda():
    """Elsewhere is on for this test."""
    with Elsewhere():
        yield torch.device("cuda")


def test_the_stand_in_has_the_rules_of_cuda(cuda):
    """Or the tests below would show nothing."""
    x = torch.zeros(3, device=cuda)
    assert isinstance(x, There) and x.device.type == "cuda" and (x + 1).is_cuda
    assert x.cpu().device.type == "cpu" and not x.cpu().is_cuda
    for wrong in (lambda: torch.randn(3, device=cuda, generator=gen()),
                  lambda: torch.rand(3, device=cuda, generator=gen()),
                  lambda: torch.randint(1, 4, (3,), device="cuda", generator=gen()),
                  lambda: torch.multinomial(x + 1, 2, generator=gen()),
                  lambda: x.normal_(generator=gen())):
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
            wrong()
    for wrong in (lambda: x + torch.zeros(3), lambda: torch.where(torch.zeros(3) > 0, x, x),
                  lambda: torch.zeros(3)[torch.zeros(2, dtype=torch.long, device=cuda)]):
        with pytest.raises(RuntimeError, match="two devices"):
            wrong()
    assert (x + torch.tensor(1.0))[torch.tensor([0, 1])].device.type == "cuda"


@pytest.mark.parametrize("f", [rng.normal, rng.uniform, lambda *a: rng.whole(2, 7, *a)],
                         ids=["normal", "uniform", "whole"])
def test_one_seed_gives_the_same_numbers_everywhere(cuda, f):
    one, two = f((4, 5), gen(), None), f((4, 5), gen(), cuda)
    assert two.device.type == "cuda" and one.device.type == "cpu" and torch.equal(one, two.cpu())
    torch.manual_seed(0)  # without a generator: on the device itself
    assert f((4, 5), None, cuda).device.type == "cuda"


def test_the_numbers_have_the_distribution_that_their_name_says():
    z, u, k = rng.normal((10_000,), gen()), rng.uniform((10_000,), gen()), rng.whole(2, 7, (10_000,), gen())
    assert abs(z.mean()) < 0.04 and abs(z.std() - 1) < 0.03
    assert 0 <= u.min() < 0.001 and 0.999 < u.max() < 1 and abs(u.mean() - 0.5) < 4 * 0.0029
    assert set(k.tolist()) == {2, 3, 4, 5, 6} and (torch.bincount(k)[2:] - 2000).abs().max() < 4 * 40
    assert rng.normal((2,), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("schedule", [DDPM(50), Cosine(50), EDM(), Flow(), Flow(shift=3.0)],
                         ids=["ddpm", "cosine", "edm", "flow", "flow3"])
def test_schedules_draw_for_another_device(cuda, schedule):
    t, x = schedule.draw_t(5, cuda, gen()), schedule.start((2, 3, 4, 4), gen(), cuda)
    assert t.device.type == x.device.type == "cuda"
    assert torch.equal(t.cpu(), schedule.draw_t(5, None, gen()))
    assert torch.equal(x.cpu(), schedule.start((2, 3, 4, 4), gen()))
    assert schedule.times(4, cuda).device.type == "cuda"


def mixture(device=None):
    return GaussianMixture([1, 3], torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).to(device), [0.3, 0.6])


@pytest.mark.parametrize("step", [ddpm, lambda generator: ddpm("beta", generator),
                                  lambda generator: ddim(1.0, generator), lambda generator: ddim(),
                                  lambda generator: heun(), lambda generator: dpmpp_2m()],
                         ids=["ddpm", "beta", "ddim1", "ddim", "heun", "dpmpp"])
@pytest.mark.parametrize("make", [lambda: DDPM(50), EDM, Flow], ids=["ddpm", "edm", "flow"])
def test_samplers_draw_the_same_on_another_device(cuda, step, make):
    ends = []
    for device in (None, cuda):
        schedule = make()
        x = schedule.start((6, 2), gen(1), device)
        denoise = clip_x0(mixture(device).denoiser(schedule), 5.0)
        ends.append(draw(denoise, schedule, x, 5, step(generator=gen(2))))
    assert ends[1].device.type == "cuda"
    torch.testing.assert_close(here(ends[1]), ends[0])


def test_a_step_draws_in_the_type_of_the_picture(cuda):
    x = DDPM(10).start((2, 2), gen(), cuda).double()
    for step in (ddpm(generator=gen()), ddim(1.0, gen())):
        end = draw(lambda x, t: Pred(x, x), DDPM(10), x, 4, step)
        assert end.dtype == torch.float64 and end.device.type == "cuda"


def test_toys_are_drawn_where_their_means_are(cuda):
    one, two = mixture().sample(50, gen()), mixture(cuda).sample(50, gen())
    assert two.device.type == "cuda"
    torch.testing.assert_close(here(two), one)
    assert mixture(cuda).sample(5).device.type == "cuda"


def test_conditions_are_dropped_on_another_device(cuda):
    cond = torch.arange(40.0).reshape(20, 2)
    one = drop(cond, torch.zeros(2), 0.5, gen())
    two = drop(cond.to(cuda), torch.zeros(2, device=cuda), 0.5, gen())
    assert two.device.type == "cuda" and torch.equal(one, here(two)) and (one == 0).all(1).sum() > 2
    assert augment(torch.zeros(3, 3, 4, 4, device=cuda), torch.rand(3, device=cuda)).device.type == "cuda"


def test_groups_are_found_on_another_device(cuda):
    z = torch.randn(60, 4, 2, 2, generator=gen())
    one = kmeans(unit_pca(z, 5), torch.ones(60), 7)
    two = kmeans(unit_pca(z.to(cuda), 5), torch.ones(60), 7)
    assert all(b.device.type == "cuda" for b in two)
    assert torch.equal(one[0], here(two[0]))


def test_kid_draws_its_subsets_on_another_device(cuda):
    x, y = torch.randn(40, 4, generator=gen()), torch.randn(40, 4, generator=gen(1))
    one, two = kid(x, y, 5, generator=gen()), kid(x.to(cuda), y.to(cuda), 5, generator=gen())
    assert one == pytest.approx(two)


def test_there_and_here_keep_the_numbers():
    x = torch.randn(3)
    assert torch.equal(here(there(x)), x) and isinstance(there(x), There)
