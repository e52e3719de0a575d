"""Cells tagged `sketch:MODULE.NAME` are simpler than the library and must give the same numbers."""
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import samplers, toys
from course_lib.nets import autoencoder, layers
from course_lib.schedules import DDPM, Cosine

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def check_algorithm_2(source: str) -> None:
    """Same start, same random numbers: the same points as samplers.ddpm, with either variance."""
    schedule = Cosine(200)
    beta = schedule.beta
    cell = {"torch": torch, "T": schedule.T, "beta": beta, "alpha": schedule.alpha, "abar": schedule.abar}
    exec(source, cell)
    exact = toys.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], 0.3).denoiser(schedule)
    start = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    for variance, extra in (("posterior", ()), ("beta", (lambda t: beta[t],))):
        mine, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
        path = cell["algorithm_2"](lambda x, t: exact(x, t).eps, start, mine, *extra)
        last = samplers.draw(exact, schedule, start, schedule.T, samplers.ddpm(variance, theirs))
        assert len(path) == schedule.T + 1
        assert torch.allclose(path[-1], last, atol=1e-4), variance


def check_ddpm_schedule(source: str) -> None:
    """beta, alpha, abar by hand are those of schedules.DDPM()."""
    cell = {"torch": torch}
    exec(source, cell)
    for name in ("beta", "alpha", "abar"):
        expected = getattr(DDPM(), name)
        assert cell[name].shape == expected.shape, f"{name}: index 0 must be the clean picture"
        assert torch.allclose(cell[name].double(), expected, atol=1e-6), name


def same_network(sketch, original, *given) -> None:
    """The library's weights fit the sketch and give the same output. Both begin by adding nothing, so
    all weights are drawn anew."""
    torch.manual_seed(0)
    for p in original.parameters():
        nn.init.normal_(p, std=0.1)
    sketch.load_state_dict(original.state_dict())
    assert torch.allclose(sketch(*given), original(*given), atol=1e-5)


def check_res_block(source: str) -> None:
    """Without the choice to leave out the time."""
    cell = {"torch": torch, "nn": nn, "F": F, "embed": layers.TimeEmbed(128)}
    exec(source, cell)
    for c_out in (16, 24):
        same_network(cell["ResBlock"](16, c_out, 32), layers.ResBlock(16, c_out, 32),
                     torch.randn(2, 16, 8, 8), torch.randn(2, 32))


def check_vae_loss(source: str) -> None:
    """Same networks, same noise: the loss of KLAutoencoder."""
    x = torch.rand(3, 3, 64, 64) * 2 - 1
    cell = {"torch": torch, "x_val": x, "seed": torch.manual_seed} | vars(autoencoder)
    exec(source, cell)
    model = autoencoder.KLAutoencoder(beta=0.3, fine=16, coarse=16).eval()
    torch.manual_seed(1)
    expected = model.loss(x)
    torch.manual_seed(1)
    assert torch.allclose(cell["vae_loss"](model.encoder, model.decoder, x, 0.3), expected, rtol=1e-5)


CHECKS = {"samplers.ddpm": check_algorithm_2, "schedules.DDPM": check_ddpm_schedule,
          "nets.layers.ResBlock": check_res_block,
          "nets.autoencoder.KLAutoencoder": check_vae_loss}


def sketches() -> list[tuple[str, str]]:
    found = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            found += [(tag.removeprefix("sketch:"), "".join(cell["source"]))
                      for tag in cell["metadata"].get("tags", []) if tag.startswith("sketch:")]
    return found


@pytest.mark.parametrize(("name", "source"), sketches(), ids=[name for name, _ in sketches()])
def test_a_sketch_gives_the_librarys_numbers(name, source):
    CHECKS[name](source)


def test_every_check_has_its_sketch():
    assert {name for name, _ in sketches()} == set(CHECKS)
