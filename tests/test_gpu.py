"""On an NVIDIA GPU: every recipe trains, every system draws, and the numbers are those of the CPU."""
import pytest
import torch

from course_lib import recipes, samplers, train

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("random_latents"),
              pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")]


def losses(name, steps=8, **how):
    """The losses of the first steps, and the averaged model."""
    plan = recipes.get(name)
    model = plan.new().to("cuda")
    found = []
    ticks = train.fit(model, plan.loss, plan.batches("train", "cuda"), steps, lr=plan.lr, seed=0,
                      muon=plan.muon, **how)
    for tick in ticks:
        found.append(tick.loss)
    return torch.tensor(found), tick.ema


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_trains(name):
    found, ema = losses(name)
    assert found.isfinite().all()
    assert {p.device.type for p in ema.parameters()} == {"cuda"}


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_fast_path_gives_the_eager_losses(name):
    """The same seed, in bfloat16 both times: once operation by operation, once as a CUDA graph."""
    eager, _ = losses(name, 12, bf16=True)
    fast, ema = losses(name, 12, fast=True)
    torch.testing.assert_close(fast, eager, rtol=0.03, atol=0.01)
    assert all(p.isfinite().all() for p in ema.parameters())


@pytest.mark.parametrize("muon", [False, True])
def test_the_fast_path_keeps_the_last_good_step(muon):
    plan = recipes.get("level16")
    model, stream = plan.new().to("cuda"), plan.batches("train", "cuda")

    def spoiled():
        for k, batch in enumerate(stream, 1):
            yield {"x_0": batch["x_0"] * float("nan")} if k == 7 else batch
    with pytest.raises(FloatingPointError, match="at step 7"):
        for tick in train.fit(model, plan.loss, spoiled(), 20, seed=0, fast=True, muon=muon):
            good, last = [p.detach().clone() for p in model.parameters()], tick.step
    assert last == 6
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), good, strict=True))


@pytest.mark.parametrize("muon", [False, True])
def test_a_fast_run_resumes_to_the_bit(muon):
    plan = recipes.get("level16")

    def run(resume=None, stop=10):
        model = plan.new().to("cuda")
        stream = plan.batches("train", "cuda")
        for tick in train.fit(model, plan.loss, stream, 10, seed=0, fast=True, resume=resume, muon=muon):
            if tick.step == stop:
                return tick.state()
    straight, again = run(), run(run(stop=6))
    for key, value in straight.items():
        torch.testing.assert_close(again[key].float(), value.float(), rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("step", [None, samplers.ddpm(), samplers.ddim(1.0)])
@pytest.mark.parametrize("name", ["sd64", "ldm64"])
def test_systems_draw_the_pictures_of_the_cpu(name, step):
    texts = ["noto red heart", "fluent cat face"]
    draw = lambda system: system.generate(texts if name == "sd64" else 2, steps=4, w=1.0, seed=3, step=step)
    here, there = draw(recipes.load(name)), draw(recipes.load(name, "cuda"))
    assert there.device.type == "cuda"
    if step is None:  # the steps with fresh noise draw it on the GPU
        torch.testing.assert_close(there.cpu(), here, atol=0.02, rtol=0)


@pytest.mark.parametrize("make", [samplers.ddpm, samplers.ddim])
def test_a_generator_of_the_cpu_serves_a_model_on_the_gpu(make):
    model = recipes.load("level16")
    ends = []
    for device in ("cpu", "cuda"):
        g = torch.Generator().manual_seed(0)
        start = model.schedule.start((2, 3, 16, 16), g, device)
        step = make(generator=g) if make is samplers.ddpm else make(1.0, g)
        ends.append(samplers.draw(model.to(device), model.schedule, start, 6, step).cpu())
    torch.testing.assert_close(*ends, atol=0.02, rtol=0)
