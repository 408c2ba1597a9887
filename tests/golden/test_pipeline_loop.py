"""The whole denoising loop on tiny networks against the released program."""

from dataclasses import dataclass

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from golden_fixtures import Golden, GoldenFile
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dicetalk.bench.plain import PlainGuidedUNet
from dicetalk.conditioning import draw_noise, embed_portrait, encode_portrait, pad_tokens, pose_features
from dicetalk.config import PoseGuiderConfig, UNetConfig
from dicetalk.denoise.guided import Conditioning, GuidedUNet
from dicetalk.denoise.pose_guider import PoseGuider
from dicetalk.denoise.sampler import sample_euler
from dicetalk.denoise.schedule import karras_sigmas, sigma_to_timestep
from dicetalk.denoise.tokens import FrameTokens, StoredRows
from dicetalk.denoise.unet import UNet
from dicetalk.denoise.windows import padding, window_schedule
from dicetalk.errors import NotEnoughMemoryError
from dicetalk.hooks import Hooks
from dicetalk.residency import CPU
from dicetalk.settings import SamplerSettings
from dicetalk.video.decode import decode_frames


@dataclass(frozen=True)
class Networks:
    unet: UNet
    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection
    pose_guider: PoseGuider


@pytest.fixture(scope="module")
def loop(golden: Golden) -> GoldenFile:
    return golden.file("pipeline_loop.safetensors")


@pytest.fixture(scope="module")
def networks(golden: Golden, loop: GoldenFile) -> Networks:
    config, unet_file = loop.entry["config"], golden.file("unet_tiny.safetensors")
    unet = UNet(UNetConfig.from_released(unet_file.entry["config"]))
    unet.load_state_dict(unet_file.weights(like=unet.state_dict()))

    vae = AutoencoderKLTemporalDecoder.from_config(config["vae"])
    vae.load_state_dict(loop.weights(prefix="vae/"))

    image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config["image_encoder"]))
    image_encoder.load_state_dict(loop.weights(prefix="image_encoder/"))

    sizes = golden.file("pose_guider.safetensors").entry["config"]
    pose_guider = PoseGuider(PoseGuiderConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}))
    pose_guider.load_state_dict(loop.weights(prefix="pose_guider/"))
    return Networks(*(m.eval() for m in (unet, vae, image_encoder, pose_guider)))


def settings_of(case: dict, **changes) -> SamplerSettings:
    values = {
        "steps": case["steps"],
        "window": case["fpb"],
        "overlap": case["overlap"],
        "shift": case["shift"],
        "portrait_guidance": tuple(case["g1"]),
        "expression_guidance": tuple(case["g2"]),
        "noise_strength": case.get("strength", 1.0),
        "portrait_noise": case.get("aug", 0.0),
    }
    return SamplerSettings(**(values | changes))


def frame_tokens(conditional: torch.Tensor, unconditional: torch.Tensor, frames: int, pad: int) -> FrameTokens:
    """Rows as stored: one that serves all frames, or one a frame."""
    rows = StoredRows(torch.cat([conditional, unconditional]))
    index = [torch.arange(len(x)).expand(frames) for x in (conditional, unconditional)]
    return pad_tokens(FrameTokens(rows, index[0], len(conditional) + index[1]), pad)


def condition(loop: GoldenFile, networks: Networks, name: str, settings: SamplerSettings) -> Conditioning:
    case, shared, inputs = loop.entry["cases"][name], loop.inputs("shared/"), loop.inputs(f"{name}/")
    frames, pad = case["N"], padding(settings.schedule, settings.window)
    image = shared["ref_image"][0]
    noise = inputs.get("ref_noise", torch.zeros(1, *image.shape))
    image_latents, start_latents = encode_portrait(networks.vae, image, noise, settings.portrait_noise, CPU)
    mask = inputs["face_mask"].float()[:, None]
    if len(mask) > 1:
        mask = torch.cat([mask, mask[-1:].expand(pad, -1, -1, -1)])
    return Conditioning(
        clip_token=embed_portrait(networks.image_encoder, shared["clip_image"][0], CPU),
        image_latents=image_latents,
        start_latents=start_latents,
        audio=frame_tokens(inputs["audio"], inputs["uncond_audio"], frames, pad),
        emotion=frame_tokens(inputs["emotion"], inputs["uncond_emotion"], frames, pad),
        mask=mask[:1],
        pose=pose_features(networks.pose_guider, mask, CPU),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each case whose inputs the folder holds."""
    if "name" in metafunc.fixturenames:
        golden = Golden(metafunc.config.getoption("--golden-dir"))
        loop = golden.file("pipeline_loop.safetensors")
        metafunc.parametrize("name", [case for case in loop.entry["cases"] if loop.inputs(f"{case}/")])


@torch.inference_mode()
def test_loop(loop: GoldenFile, networks: Networks, name: str) -> None:
    case, outputs = loop.entry["cases"][name], set(loop.output_names(f"{name}/"))
    settings = settings_of(case)
    total = case["N"] + padding("reference", case["fpb"])
    checked = set()

    def check(what: str, actual: torch.Tensor) -> None:
        if f"{name}/{what}" in outputs:
            loop.check(f"{name}/{what}", actual)
            checked.add(f"{name}/{what}")

    sigmas = karras_sigmas(settings.steps)
    check("sigmas", sigmas)
    check("timesteps", sigma_to_timestep(sigmas[:-1]))
    assert settings.steps_run == case["steps_run"]
    sigmas = sigmas[settings.steps - settings.steps_run :]

    conditioning = condition(loop, networks, name, settings)
    check("pose_features_frame0", conditioning.pose[0])
    x = conditioning.start_latents + loop.inputs(f"{name}/")["latents"][0] * sigmas[0]
    check("latents_before_step0", x[None])

    calls, first = [], {}
    network = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32)

    def spy(module: torch.nn.Module, args: tuple) -> None:
        first.setdefault("sample", args[0])
        first.setdefault("ids", args[2])

    def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
        v = network(x, sigma, frames, step)
        if not calls:
            check("guided_step0_window0", v[None])
        calls.append([step, sum(c[0] == step for c in calls), frames])
        return v

    hook = networks.unet.register_forward_pre_hook(spy)
    schedule = window_schedule("reference", total, case["fpb"], case["overlap"], case["shift"])
    latents = sample_euler(predict, x.clone(), sigmas, schedule)
    hook.remove()
    check("latents", latents[None])
    assert calls == case["windows"]
    if len(first["sample"]) > 1:  # a branch of weight zero is not computed; the fixture stores the first two rows
        check("unet_call0/sample", first["sample"][:2])
    assert first["ids"].tolist() == case["added_time_ids"][: len(first["ids"])]

    for step in range(settings.steps_run - 1):
        x = sample_euler(
            lambda x, sigma, frames, _, step=step: network(x, sigma, frames, step),
            x,
            sigmas[step : step + 2],
            lambda _, step=step: schedule(step),
        )
        check(f"latents_after_step{step}", x[None])

    frames = torch.cat(list(decode_frames(networks.vae, latents, case["N"], chunk=case["chunk"], residency=CPU)))
    for what in outputs:
        if "frames_stride" in what:
            stride = int(what.rpartition("stride")[2])
            # The fixture is the decoder's output in -1..1, unclamped; ours is the picture in 0..1.
            picture = frames.transpose(0, 1)[None][..., ::stride, ::stride]
            expected = (loop.tensors[f"out/{what}"] * 0.5 + 0.5).clamp(0, 1)
            assert picture.shape == expected.shape
            assert (picture - expected).abs().max() <= loop.entry["tolerance"][what]["atol"]
            checked.add(what)
    assert checked == outputs


def test_shared_encodings(loop: GoldenFile, networks: Networks) -> None:
    shared = loop.inputs("shared/")
    image = shared["ref_image"][0]
    latents, start = encode_portrait(networks.vae, image, torch.zeros(1, *image.shape), 0.0, CPU)
    loop.check("shared/vae_mean", latents[None])
    assert torch.allclose(start, latents * networks.vae.config.scaling_factor)
    loop.check("shared/image_embeds", embed_portrait(networks.image_encoder, shared["clip_image"][0], CPU)[0])


def test_noise_is_drawn_in_the_released_order(loop: GoldenFile) -> None:
    for name, case in loop.entry["cases"].items():
        inputs = loop.inputs(f"{name}/")
        if "gen" not in case or not inputs:
            continue
        image, latents = inputs["ref_noise"], inputs["latents"]
        noise = draw_noise(case["gen"], latents.shape[1], tuple(image.shape[-2:]), latents.shape[2])
        assert torch.equal(noise.portrait, image)
        assert torch.equal(noise.latents, latents[0])


@torch.inference_mode()
def test_savings_are_exact(loop: GoldenFile, networks: Networks, name: str) -> None:
    """Projecting once or per window, branches together or one by one, or none of the savings: the same prediction."""
    case = loop.entry["cases"][name]
    frames = case["windows"][0][2]
    x = loop.inputs(f"{name}/")["latents"][0][frames]
    results = []
    for changes in ({}, {"key_value_budget": 0}, {"batched_guidance": False}):
        settings = settings_of(case, **changes)
        conditioning = condition(loop, networks, name, settings)
        network = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32)
        results.append(network(x, torch.tensor(3.0), frames, 0))
    mask_is_constant = len(conditioning.pose) == 1
    if mask_is_constant:
        plain = PlainGuidedUNet(
            networks.unet,
            conditioning,
            settings,
            torch.device("cpu"),
            torch.float32,
            pose_guider=networks.pose_guider,
        )
        results.append(plain(x, torch.tensor(3.0), frames, 0))
    for other in results[1:]:
        assert (other - results[0]).abs().max() < 2e-5


@torch.inference_mode()
def test_out_of_memory_runs_branches_one_at_a_time(loop: GoldenFile, networks: Networks, name: str) -> None:
    case = loop.entry["cases"][name]
    settings = settings_of(case)
    conditioning = condition(loop, networks, name, settings)
    frames = case["windows"][0][2]
    x = loop.inputs(f"{name}/")["latents"][0][frames]
    notices, sizes = [], []

    def no_room(module: torch.nn.Module, args: tuple) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    plain = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32)
    expected = plain(x, torch.tensor(3.0), frames, 0)
    hooks = Hooks(notice=notices.append)
    poor = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32, hooks)
    hook = networks.unet.register_forward_pre_hook(no_room)
    try:
        results = [poor(x, torch.tensor(3.0), frames, 0) for _ in range(2)]
    finally:
        hook.remove()
    for result in results:
        assert (result - expected).abs().max() < 2e-5
    assert len(notices) == 1 and "one at a time" in notices[0]
    assert sizes == [sizes[0]] + [1] * (2 * sizes[0])

    # With the clip's keys and values kept even one branch finds no room: they are given up, and the result is the same.
    def no_room_beside_them(module: torch.nn.Module, args: tuple) -> None:
        if len(args[0]) > 1 or any(projected.kept is not None for _, projected in poor.adapters):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    notices.clear()
    poor = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32, hooks)
    hook = networks.unet.register_forward_pre_hook(no_room_beside_them)
    try:
        assert (poor(x, torch.tensor(3.0), frames, 0) - expected).abs().max() < 2e-5
    finally:
        hook.remove()
    assert len(notices) == 2 and "projected again for each window" in notices[1]

    def no_room_at_all(module: torch.nn.Module, args: tuple) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = networks.unet.register_forward_pre_hook(no_room_at_all)
    try:
        with pytest.raises(NotEnoughMemoryError, match=f"window of {len(frames)} frames.*smaller picture size"):
            poor(x, torch.tensor(3.0), frames, 0)
    finally:
        hook.remove()
