"""Everything moves: recipes train and systems draw on another device, with the numbers of the CPU.

The other device is the stand-in of gpu_stand_in.py, which refuses what CUDA refuses. PyTorch must be told of
it before the first gradient, so test_device.py runs this file in a process of its own; by hand:

    pytest tests/on_another_device.py
"""
import pytest
import torch
from gpu_stand_in import AVAILABLE, device, stand_in_gpu

from course_lib import data, recipes, rng, samplers, train
from course_lib.guidance import drop
from course_lib.schedules import DDPM, EDM, Flow

pytestmark = [pytest.mark.usefixtures("random_latents"), pytest.mark.skipif(
    not AVAILABLE, reason="this PyTorch is too old for a device made in Python")]
if AVAILABLE:
    device()


def generator():
    return torch.Generator().manual_seed(0)


def test_the_stand_in_refuses_what_cuda_refuses():
    with stand_in_gpu() as gpu:
        there, here = torch.ones(3, device=gpu), torch.ones(3)
        assert there.device == gpu and torch.equal((there + there).cpu(), here + here)
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.randn(3, device=gpu, generator=generator())


@pytest.mark.parametrize("name", sorted(set(recipes.RECIPES) - {"faces32", "all32", "level16", "vae64"}))
def test_a_recipe_trains_on_another_device(name, few_texts):
    plan = recipes.get(name)
    if name in ("sd64", "dalle", "maskgit") or name.startswith(("imagen", "unclip")):
        few_texts()

    def first(device):
        batch = plan.batches("train", device)
        ticks = train.fit(plan.new().to(device), plan.loss, batch, 2, seed=0)
        return next(ticks)
    expected = first("cpu").loss
    with stand_in_gpu() as gpu:
        tick = first(gpu)
        assert tick.loss == pytest.approx(expected, rel=1e-4)
        assert {p.device for p in tick.ema.parameters()} == {gpu}
        assert {v.device.type for k, v in tick.state().items() if k.startswith("model.")} == {"gpu"}


@pytest.mark.parametrize("step", [None, samplers.ddpm(), samplers.ddim(1.0), samplers.heun()],
                         ids=["default", "ddpm", "ddim", "heun"])
@pytest.mark.parametrize("name", ["sd64", "ldm64"])
def test_a_system_draws_the_same_on_another_device(name, step):
    texts = ["noto red heart", "fluent cat face"]
    draw = lambda system: system.generate(texts if name == "sd64" else 2, steps=3, seed=3, step=step)
    expected = draw(recipes.load(name))
    with stand_in_gpu() as gpu:
        found = draw(recipes.load(name, gpu))
        assert found.device == gpu
        torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("step", [lambda g: samplers.ddpm(generator=g), lambda g: samplers.ddim(1.0, g)])
def test_a_generator_of_the_cpu_serves_a_chain_elsewhere(step):
    model, ends = recipes.load("level16"), []
    with stand_in_gpu() as gpu:
        for device in ("cpu", gpu):
            g = generator()
            x = model.schedule.start((2, 3, 16, 16), g, device)
            ends.append(samplers.draw(model.to(device), model.schedule, x, 5, step(g)).cpu())
    torch.testing.assert_close(*ends, atol=1e-4, rtol=0)


@pytest.mark.parametrize("draw", [
    lambda d, g: DDPM().draw_t(5, d, g), lambda d, g: EDM().draw_t(5, d, g),
    lambda d, g: Flow().draw_t(5, d, g), lambda d, g: EDM().start((2, 3), g, d),
    lambda d, g: rng.normal((2, 3), g, d),
    lambda d, g: rng.uniform((5,), g, d), lambda d, g: rng.whole(0, 9, (5,), g, d),
    lambda d, g: drop(torch.arange(9).to(d), torch.tensor(0), 0.5, g),
    lambda d, g: next(data.emoji(16, "faces").batches(2, d, generator=g))])
def test_one_seed_draws_the_same_everywhere(draw):
    expected = draw("cpu", generator())
    with stand_in_gpu() as gpu:
        found = draw(gpu, generator())
        assert found.device == gpu and torch.equal(found.cpu(), expected)


