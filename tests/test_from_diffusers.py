"""The course's loop, guidance and schedule with a diffusers pipeline's networks, and the other way round."""
import json

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from course_lib import recipes
from course_lib.samplers import ddim, dpmpp_2m, sample
from course_lib.systems import from_diffusers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Stable Diffusion in miniature with random weights, on disk as on the hub."""
    path = tmp_path_factory.mktemp("pipeline")
    letters = [c + end for c in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    vocabulary = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (path / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    torch.manual_seed(0)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=12, bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1))
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=16, attention_head_dim=4,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4)
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                              clip_sample=False, timestep_spacing="trailing", steps_offset=1)
    tokenizer = CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=12)
    pipe = StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, safety_checker=None,
                                   feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(path / "tiny")
    return path / "tiny"


@pytest.fixture(scope="module")
def pipe(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("w", [1.0, 5.0])
def test_our_loop_draws_what_the_pipeline_draws(pipe, w):
    system = from_diffusers(pipe)
    ours = system.generate(["a cat", "abc"], steps=10, w=w, seed=3, step=ddim(), negative="dog")
    theirs = pipe(["a cat", "abc"], num_inference_steps=10, guidance_scale=w, latents=system.start(2, 3),
                  negative_prompt=["dog", "dog"], output_type="pt").images
    torch.testing.assert_close((ours + 1) / 2, theirs, atol=2e-4, rtol=0)
    assert theirs.std() > 0.05  # not all one colour


def test_guidance_and_text_reach_a_pipelines_network(pipe):
    system = from_diffusers(pipe)
    one, two = (system.generate([text], steps=2, w=5.0) for text in ("a cat", "xyz"))
    assert (one - two).abs().max() > 1e-4


def test_an_emoji_is_its_name_to_a_pipelines_encoder_too(pipe):
    system = from_diffusers(pipe)
    assert torch.equal(system.generate(["🐱"], 2), system.generate(["cat face"], 2))


def test_a_pipelines_encoder_says_what_the_pipeline_reads(pipe):
    encoder = from_diffusers(pipe).text_encoder
    said = encoder.encode(["a cat", ""])
    assert said.keys() == {"words", "mask"} and said["mask"].all() and said["mask"].shape == (2, 12)
    expected, _ = pipe.encode_prompt(["a cat", ""], "cpu", 1, False)
    torch.testing.assert_close(said["words"], expected)
    with pytest.raises(TypeError, match="expected a list of texts, given one text"):
        encoder.encode("a cat")


def test_all_parts_of_a_pipeline_move_together(folder):
    fresh = from_diffusers(StableDiffusionPipeline.from_pretrained(folder, safety_checker=None))
    assert fresh.to("meta") is fresh
    for part in (fresh.text_encoder.model, fresh.denoiser, fresh.decoder.vae):
        assert {p.device.type for p in part.parameters()} == {"meta"}
    assert fresh.device.type == "meta"


def test_what_lies_beyond_the_tokens_is_reported(pipe):
    encoder = from_diffusers(pipe).text_encoder
    assert encoder.unread("abc") == [] and encoder.unread("a " * 11 + "b c") == ["a b c"]


def test_an_unknown_target_is_named(pipe):
    odd = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    odd.scheduler = DDIMScheduler(prediction_type="sample")
    with pytest.raises(ValueError, match="predicts 'sample'; known are epsilon, v_prediction"):
        from_diffusers(odd)


@pytest.mark.parametrize(("scheduler", "step", "options"), [
    (DDIMScheduler, ddim, {"clip_sample": False}),
    (DPMSolverMultistepScheduler, dpmpp_2m, {"final_sigmas_type": "zero", "lower_order_final": True}),
])
def test_sd64_through_the_schedulers_of_diffusers(scheduler, step, options):
    """The shipped model's latents, step by step, when diffusers walks instead of us."""
    system, steps = recipes.load("sd64"), 10
    schedule = system.denoiser.schedule
    theirs = scheduler(trained_betas=schedule.beta[1:].tolist(), prediction_type="sample",
                       timestep_spacing="trailing", **options)
    theirs.set_timesteps(steps)
    with torch.no_grad():
        denoise, z = system.guided(["noto red heart", "fluent cat"], w=3.0), system.start(2)
        ours = [state.x for state in sample(denoise, schedule, z, steps, step())]
        for t, expected in zip(theirs.timesteps, ours, strict=True):
            z = theirs.step(denoise(z, torch.full((2,), t.item() + 1)).x0, t, z).prev_sample
            torch.testing.assert_close(z, expected, atol=5e-3, rtol=1e-3)
