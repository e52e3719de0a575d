"""Wrong calls of every module: each is refused at the door, and the message names what was wrong."""
import dataclasses
import math

import numpy as np
import pytest
import torch

from course_lib import (
    batches,
    captions,
    clusters,
    data,
    exercises,
    features,
    guidance,
    metrics,
    rng,
    toys,
    viz,
)
from course_lib.denoiser import Denoiser, pred
from course_lib.nets import autoencoder, classifier, clip, text, transformer, unet
from course_lib.runtime import seed, threads
from course_lib.samplers import ddim, draw, sample
from course_lib.schedules import EDM, Cosine, Flow
from course_lib.systems import LatentDiffusion


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


SCHEDULE, POINTS, FEATURES, X = Cosine(10), normal(20, 2), normal(12, 4), normal(2, 3, 8, 8).clamp(-1, 1)
NET = unet.UNet((8, 8))
EMOJI = data.Emoji(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), [{"concept": "a"}, {"concept": "b"}])
MEAN, COVARIANCE = metrics.gaussian(FEATURES)
TOKENIZER = text.Tokenizer(["red heart"])


def system(**parts):
    net = unet.UNet((8, 8), channels=2, vectors={"label": lambda dim: unet.ClassEmbed(dim, 4)})
    codec = autoencoder.KLAutoencoder(2, fine=8, coarse=8)
    given = {"denoiser": Denoiser(net, SCHEDULE), "decoder": codec, "shape": (2, 8, 8)}
    return LatentDiffusion(**given | parts)


def told(label):
    return system().generate(2, 1, label=label)


@pytest.mark.parametrize(("call", "named"), [
    # metrics
    (lambda: metrics.kid(FEATURES, FEATURES, subsets=0),
     "subsets must be a whole number, at least 1; given 0"),
    (lambda: metrics.kid(FEATURES, FEATURES, subsets=2.5), "subsets must be a whole number, .*given 2.5"),
    (lambda: metrics.kid(FEATURES.numpy(), FEATURES), r"real must be a tensor .*numpy float32 \(12, 4\)"),
    (lambda: metrics.cmmd(FEATURES, FEATURES.numpy()), r"fake must be a tensor .*numpy float32 \(12, 4\)"),
    (lambda: metrics.cmmd(FEATURES, FEATURES, sigma=0), "sigma must be above 0"),
    (lambda: metrics.gaussian(FEATURES.numpy()), "x must be a tensor of real numbers; given numpy"),
    (lambda: metrics.kl_gaussian(MEAN.numpy(), COVARIANCE, MEAN, COVARIANCE), "m1 must be a tensor"),
    (lambda: metrics.kl_gaussian(COVARIANCE, MEAN, COVARIANCE, MEAN), r"means \(d,\) and covariances"),
    (lambda: metrics.kl_gaussian(MEAN, COVARIANCE.triu(), MEAN, COVARIANCE), "must be symmetric"),
    (lambda: metrics.frechet_gaussians(MEAN, COVARIANCE.numpy(), MEAN, COVARIANCE), "S1 must be a tensor"),
    (lambda: metrics.frechet(FEATURES > 0, FEATURES), r"tensors of features, floats; given bool \(12, 4\)"),
    (lambda: metrics.frechet(FEATURES.to(torch.complex64), FEATURES), "real numbers; given complex64"),
    (lambda: metrics.clip_score(X, X), "a text for every picture"),
    (lambda: metrics.mmd(FEATURES, FEATURES, "rbf"), "kernel must be a function; given 'rbf'"),
    (lambda: metrics.random_features(X, width=0), "width must be a whole number"),
    (lambda: metrics.random_features(X, seed=1.5), "seed must be a whole number"),
    # clusters, toys, random numbers
    (lambda: clusters.kmeans(POINTS, -torch.ones(20), 2), "weights must be 20 numbers, none negative"),
    (lambda: clusters.kmeans(POINTS, torch.ones(19), 2), r"weights must be 20 .*given float32 \(19,\)"),
    (lambda: clusters.kmeans(POINTS, torch.ones(20), 2, rounds=-1),
     "rounds must be a whole number, at least 0"),
    (lambda: clusters.kmeans(POINTS[None], torch.ones(1), 1), r"points must be \(N, d\)"),
    (lambda: clusters.unit_pca(POINTS[:1], 1), "two latents or more, given 1"),
    (lambda: toys.GaussianMixture([1.0], [[0.0, 1.0]], 1.0).score(normal(4, 3)), r"points must be \(N, 2\)"),
    (lambda: toys.GaussianMixture([1.0], [[math.nan]], 1.0), "expected K weights"),
    (lambda: toys.GaussianMixture([1.0], [[0.0]], 1.0).sample(0), "n must be a whole number, at least 1"),
    (lambda: toys.toy2d("moons", 3, 7), "generator must be a torch.Generator, .*given 7"),
    (lambda: rng.normal((2.5,)), "each number of a shape must be a whole number"),
    (lambda: rng.whole(3, 3, (1,)), "high must be a whole number, at least 4; given 3"),
    # data
    (lambda: data.Emoji(EMOJI.pictures[:1], EMOJI.table), "given 1 pictures and 2 rows"),
    (lambda: data.Emoji(EMOJI.pictures.float(), EMOJI.table), r"pictures must be uint8 \(N, 3, S, S\)"),
    (lambda: data.Emoji(EMOJI.pictures.numpy(), EMOJI.table), "pictures must be a tensor .*numpy uint8"),
    (lambda: data.shift(X[0]), r"pictures must be \(B, 3, H, W\), given float32 \(3, 8, 8\)"),
    (lambda: data.flip_and_shift(X.permute(0, 2, 3, 1)), r"pictures must be \(B, 3, H, W\)"),
    (lambda: data.shrink(X > 0, 2), r"uint8 or floats; given bool"),
    (lambda: captions.spell_out(5), "expected a list of texts, given 5"),
    (lambda: captions.facts("red heart"), "row must be a dict; given 'red heart'"),
    (lambda: next(batches.latent_batches(EMOJI, normal(2, 4).long(), 1)), "z must be a tensor of floats"),
    (lambda: next(batches.picture_batches(EMOJI.pictures, 1)), "emoji must be of type Emoji"),
    (lambda: next(batches.class_batches(EMOJI, normal(2, 4), torch.tensor([0, 3]), 3, 1)),
     r"label must be whole numbers \(B,\) in 0 \.\. 2"),
    # schedules, denoisers, guidance, samplers
    (lambda: EDM(rho="7"), "rho must be one number, finite; given '7'"),
    (lambda: Flow(shift=None), "shift must be one number, finite; given None"),
    (lambda: SCHEDULE.add_noise(X, torch.tensor([1, 2]), X * math.nan), "eps holds 384 numbers"),
    (lambda: SCHEDULE.signal(torch.tensor([1j])), "times are tensors"),
    (lambda: SCHEDULE.start((2.5, 3)), "shape must be a list, each of it a whole number"),
    (lambda: Denoiser(None, SCHEDULE), "net must be a function; given None"),
    (lambda: Denoiser(NET, Cosine), "schedule must be of type Schedule; given <function Cosine"),
    (lambda: Denoiser(NET, SCHEDULE, "eps"), "target must be of type Target; given 'eps'"),
    (lambda: Denoiser(NET, SCHEDULE).loss((255 * X.abs()).to(torch.uint8)), "x_0 must be a tensor of floats"),
    (lambda: Denoiser(NET, SCHEDULE)(X.long(), torch.tensor(1)), "x_t must be a tensor of floats"),
    (lambda: pred(X[0], SCHEDULE, X, torch.tensor(1)), "x0 and x_t must have one shape"),
    (lambda: guidance.guide({}, NET, {}, 2.0), "denoise must be a function; given {}"),
    (lambda: guidance.guide(NET, [1], {}, 2.0), r"cond must be a dict; given \[1\]"),
    (lambda: guidance.interval(2.0, "1", 3), "low must be one number"),
    (lambda: guidance.same_schedule(SCHEDULE, "cosine"), "other must be of type Schedule; given 'cosine'"),
    (lambda: guidance.drop(normal(4, 2).numpy(), normal(2), 0.5), "cond must be a tensor"),
    (lambda: sample(NET, Cosine, X, 3), "schedule must be of type Schedule"),
    (lambda: draw(NET, SCHEDULE, X, 3, "ddim"), "step must be a function or None; given 'ddim'"),
    (lambda: draw(Denoiser(NET, SCHEDULE), SCHEDULE, X, 3, ddim(1.0, 7)),
     "generator must be a torch.Generator"),
    # networks
    (lambda: unet.UNet((12, 16)), r"widths\[0\] must be a multiple of 8"),
    (lambda: unet.UNet(()), "resolutions must be a whole number, at least 1"),
    (lambda: unet.UNet((8,), blocks=0), "blocks must be a whole number, at least 1; given 0"),
    (lambda: NET(normal(2, 1, 8, 8), torch.ones(2)), r"x must be \(B, 3, H, W\)"),
    (lambda: NET(X.numpy(), torch.ones(2)), r"x must be a tensor .*numpy float32 \(2, 3, 8, 8\)"),
    (lambda: unet.VectorEmbed(8, 4)(normal(2, 5)), r"vectors must be \(B, 4\), given float32 \(2, 5\)"),
    (lambda: unet.ClassEmbed(8, 0), "classes must be a whole number"),
    (lambda: autoencoder.KLAutoencoder(fine=12), "fine must be a multiple of 8"),
    (lambda: autoencoder.optimize_latents("ae64", X), "codec must be something that has decode, encode"),
    (lambda: autoencoder.VQAutoencoder(8, 8).encode_tokens(normal(1, 3, 64, 64), -1),
     "search must be a whole"),
    (lambda: classifier.Classifier(8).loss(normal(1, 3, 64, 64).clamp(-1, 1)),
     "the loss needs the labels category"),
    (lambda: classifier.Classifier(8).loss(X, category=torch.tensor([9, 0]), tone=torch.tensor([0, 0]),
                                           style=torch.tensor([0, 0])), r"category must be .* in 0 \.\. 8"),
    (lambda: clip.CLIP(["red"]), "tokenizer must be of type Tokenizer"),
    (lambda: clip.clip_loss(FEATURES, FEATURES.numpy(), 10.0), "texts must be a tensor"),
    (lambda: text.Tokenizer(["a"], least=0), "least must be a whole number"),
    (lambda: text.words(b"red"), "text must be a text; given b'red'"),
    (lambda: transformer.Transformer(9, 1), "width must be a multiple of heads, given 9 and 4"),
    (lambda: features.Extractor("a", lambda x: x, 8, "nearest"), "unknown resize 'nearest'"),
    # systems
    (lambda: told("cat"), "label must be .* given 'cat'"), (lambda: told(["cat", "dog"]), "label must be"),
    (lambda: told([1, True]), "label must be"), (lambda: told([0.5, 1.0]), "label must be"),
    (lambda: told(torch.tensor([0.5, 1.0])), r"label must be whole numbers \(B,\) in 0 \.\. 4 \(no class\)"),
    (lambda: told([0, 5]),
     r"label must be whole numbers .* in 0 \.\. 4 \(no class\), given int64 \(2,\): \[0, 5\]"),
    (lambda: told([0, 1, 2]), "label must be a tensor with one entry a picture, 2"),
    (lambda: system(share=-torch.ones(4)), "share must be 4 numbers, none negative"),
    (lambda: system(decoder="ae64"), "decoder must be something that has decode; given 'ae64'"),
    (lambda: dataclasses.replace(system(), denoiser=NET), "denoiser must be of type Denoiser"),
    # exercises and the runtime
    (lambda: exercises.hint("forward.q_sample", 1.5), "n, the number of a hint for .* whole number, in 1"),
    (lambda: exercises.hint("forward.q_sample", True), "whole number"),
    (lambda: exercises.exercise("forward.q_sample", math.nan), "seconds must be one number"),
    (lambda: threads(1.5),
     r"threads\(n\) needs a whole number"), (lambda: seed("1"), r"seed\(n\) needs a whole"),
    # figures
    (lambda: viz.curves([1, 2], {"k": ["a", "b"]}, "x", "y"),
     "the line 'k' must be 2 numbers, one for each x"),
    (lambda: viz.curves([1, 2], {"k": [1j, 2]}, "x", "y"), r"the line 'k' must be .*given \[1j, 2\]"),
    (lambda: viz.curves([1, 2], {"k": torch.tensor([1j, 2])}, "x", "y"),
     "the line 'k' must be .*given numpy complex64"),
    (lambda: viz.curves([1, 2], {"k": [1, 2, 3]}, "x", "y"), "2 numbers, one for each x"),
    (lambda: viz.curves(["a", "b"], {"k": [1, 2]}, "x", "y"), "x must be numbers"),
    (lambda: viz.curves([1], {"k": [1]}, "x", "y", bands={"k": [-1]}),
     "'k' has negative half-widths, down to -1"),
    (lambda: viz.grid(X, columns=2.5), "columns must be a whole number, at least 1; given 2.5"),
    (lambda: viz.grid(X, columns=math.inf), "columns must be a whole number"),
    (lambda: viz.grid(X, width=0), "width is in inches"),
    (lambda: viz.tile(X, 2, gap=-1), "gap must be a whole number, at least 0"),
    (lambda: viz.strip({"a": X}, ["1", "2", "3"]), "3 labels of columns for 2 columns"),
    (lambda: viz.strip({"a": X}, "ab"), "columns must be a list, each of it a text; given 'ab'"),
    (lambda: viz.strip([X]), "rows must be a dict, each value a tensor"),
    (lambda: viz.film([X, X], labels=["1"]), "1 labels for 2 states"),
    (lambda: viz.film([X, X[:1]]), "all of one shape"), (lambda: viz.film([]), "at least one"),
    (lambda: viz.film([X], frames=0), "frames must be a whole number"),
    (lambda: viz.picture(X), r"a picture is \(3, H, W\)"),
    (lambda: viz.cloud(POINTS, limit=-1), "limit must be one number, at least 0"),
    (lambda: viz.explore(lambda v: X[0], []), "values must be a whole number, at least 1; given 0"),
])
def test_a_wrong_call_is_named(call, named):
    with pytest.raises((ValueError, TypeError), match=named):
        call()


def test_whole_labels_in_a_list_are_taken():
    one = system()
    assert torch.equal(one.generate(2, 1, label=[1, 2]), one.generate(2, 1, label=torch.tensor([1, 2])))


def test_means_of_whole_numbers_keep_their_spread():
    assert toys.GaussianMixture([1, 1], [[0, 1], [1, 0]], 0.5).std.tolist() == [0.5, 0.5]


def test_numbers_of_numpy_are_numbers():
    assert metrics.precision_recall(FEATURES, FEATURES + 0.1, np.int64(3)).density >= 0
