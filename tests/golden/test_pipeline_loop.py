"""The whole denoising loop on tiny networks against the released programs.

Everything runs through :func:`dicetalk.pipeline.denoise`. The fixtures record tokens and buckets, not sound and priors,
so the networks that make them are stand-ins that look them up; what is looked up still has to be asked for by the right
moment of the speech and by the right frame's prior.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from golden_fixtures import GoldenFile
from plain_sampling import PlainClip, PlainSettings, plain_latents
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dicetalk.audio.features import SpeechFeatures
from dicetalk.bench.plain import PlainGuidedUNet
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.variants import FULL, SONIC, Variant
from dicetalk.config import BucketConfig, PoseGuiderConfig, UNetConfig
from dicetalk.denoise.conditioning import (
    Conditioning,
    EncodedPortrait,
    PoseGuider,
    embed_portrait,
    encode_picture,
    pose_features,
)
from dicetalk.denoise.guided import GuidedUNet, guidance_branches
from dicetalk.denoise.latents import Latents, draw_noise
from dicetalk.denoise.sampler import PredictV, sigma_to_timestep
from dicetalk.denoise.tokens import FrameTokens, TokenRows
from dicetalk.denoise.unet import UNet
from dicetalk.denoise.windows import padding
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import NotEnoughMemoryError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.pipeline import denoise
from dicetalk.residency import CPU
from dicetalk.settings import SamplerSettings, ramp_ends
from dicetalk.video.decode import decode_frames


@dataclass(frozen=True)
class Networks:
    unet: UNet
    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection
    pose_guider: PoseGuider | None


FILES = r"(sonic_)?pipeline_loop\.safetensors"
each_case = pytest.mark.cases_of_set(FILES)
each_file = pytest.mark.files_of_set(FILES)
VARIANTS = {"DICE-Talk": FULL, "Sonic": SONIC}


@pytest.fixture(scope="module")
def loop(file: GoldenFile) -> GoldenFile:
    return file


@pytest.fixture(scope="module")
def networks(loop: GoldenFile) -> Networks:
    golden, config = loop.golden, loop.entry["config"]
    named = re.search(r"[\w.]+\.safetensors", str(config["unet"]))
    unet_file = golden.file(named[0] if named else "unet_tiny.safetensors")
    unet = UNet(UNetConfig.from_released(unet_file.entry["config"]))
    unet.load_state_dict(unet_file.weights(like=unet.state_dict()))

    vae = AutoencoderKLTemporalDecoder.from_config(config["vae"])
    vae.load_state_dict(loop.weights(prefix="vae/"))

    image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config["image_encoder"]))
    image_encoder.load_state_dict(loop.weights(prefix="image_encoder/"))

    pose_guider = None
    if pose_weights := loop.weights(prefix="pose_guider/"):
        sizes = golden.file("pose_guider.safetensors").entry["config"]
        sizes = {key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()}
        pose_guider = PoseGuider(PoseGuiderConfig(**sizes)).eval()
        pose_guider.load_state_dict(pose_weights)
    return Networks(*(m.eval() for m in (unet, vae, image_encoder)), pose_guider)


def variant_of(loop: GoldenFile) -> Variant:
    return VARIANTS[loop.golden.program]


def settings_of(loop: GoldenFile, name: str, **changes) -> SamplerSettings:
    case, config = loop.cases[name], loop.entry["config"]
    values = {
        "motion_bucket": config.get("motion_bucket_id", SamplerSettings.motion_bucket),
        "expression_bucket": config.get("motion_bucket_id_exp", SamplerSettings.expression_bucket),
        "steps": case["steps"],
        "window": case["fpb"],
        "overlap": case["overlap"],
        "shift": case["shift"],
        "portrait_guidance": tuple(case["g1"]),
        "expression_guidance": tuple(case["g2"]),
        "noise_strength": case.get("strength", 1.0),
        "portrait_noise": case.get("aug", 0.0),
        "seed": case.get("gen", 0),
        "schedule": variant_of(loop).settings.schedule,
        "motion_amount": case.get("scale", 1.0),
    }
    return SamplerSettings(**(values | changes))


class RecordedAudio(nn.Module):
    """Looks up the recorded audio tokens of the frame whose states it is given; zeros are no speech."""

    def __init__(self, speech: torch.Tensor, silence: torch.Tensor):
        super().__init__()
        self.rows = torch.cat([silence[:1], speech])

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        steps = windows[:, 4, 0, 0]  # the first one of the frame itself, see `numbered_speech`
        frames = torch.where(steps > 0, (steps - 1) / 4 + 1, 0.0)
        assert torch.equal(frames, frames.round()), "not the start of a frame"
        return self.rows[frames.long()]


class RecordedBuckets(nn.Module):
    """Looks up the recorded buckets of the frame whose states it is given."""

    config = BucketConfig(window=4)  # clips of one frame are recorded, too short for the released window

    def __init__(self, buckets: torch.Tensor):
        super().__init__()
        self.rows = nn.Parameter(buckets)

    def buckets(self, windows: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        frames = (windows[:, 1, 0] - 1) / 4  # the first step of the frame itself, see `numbered_speech`
        assert torch.equal(frames, frames.round()), "not the start of a frame"
        return self.rows[frames.long()]


class RecordedEmotions(nn.Module):
    """Looks up the recorded emotion tokens by the number in a prior; the zero prior is no emotion."""

    def __init__(self, emotions: torch.Tensor, nothing: torch.Tensor):
        super().__init__()
        self.rows = torch.cat([nothing[:1], emotions])

    def bank_context(self, like: torch.Tensor) -> str:
        return "the bank"

    def tokens(self, priors: torch.Tensor, bank: str) -> torch.Tensor:
        assert bank == "the bank"
        assert (priors - priors.round()).abs().max() < 1e-3, "a moment between two frames"
        return self.rows[priors[:, 0].round().long()]


def numbered_speech(frames: int) -> SpeechFeatures:
    """Features that are the number of their step, from 1, between the zeros before and after."""
    states = torch.zeros(4 + 4 * frames + 6, 1, 1)
    states[4:-6, 0, 0] = 1 + torch.arange(4 * frames)
    return SpeechFeatures(states, frames, frames / 12.5)


def numbered_emotions(rows: int) -> EmotionTrack:
    """One prior a frame, which is its number, from 1."""
    return EmotionTrack.curve([EmotionPrior(torch.full((PRIOR_DIM,), float(1 + row))) for row in range(rows)])


@dataclass(frozen=True)
class WithRest:
    """Token rows, and further ones behind them."""

    rows: TokenRows
    rest: torch.Tensor

    @property
    def tokens(self) -> int:
        return self.rows.tokens

    def __len__(self) -> int:
        return len(self.rows) + len(self.rest)

    def __call__(self, rows: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        own = self.rows(rows.clamp(max=len(self.rows) - 1), device, dtype)
        return torch.where((rows < len(self.rows))[:, None, None], own, self.rest[(rows - len(self.rows)).clamp(min=0)])


def own_unconditional(tokens: FrameTokens, recorded: torch.Tensor) -> FrameTokens:
    """`tokens` whose unconditional rows are the recorded ones, one a frame; the padding has the first."""
    assert not tokens.unconditional.any(), "the pipeline has one unconditional row, the first"
    places = torch.zeros_like(tokens.unconditional)
    places[: len(recorded)] = torch.arange(len(recorded))
    return FrameTokens(WithRest(tokens.rows, recorded), tokens.conditional, len(tokens.rows) + places)


Guided = Callable[..., PredictV]


def run(
    loop: GoldenFile, networks: Networks, name: str, settings: SamplerSettings, guided: Guided, hooks: Hooks = SILENT
) -> Latents:
    """Case `name` through the pipeline, `guided` being handed the recorded unconditional tokens."""
    case, shared, inputs = loop.cases[name], loop.inputs("shared/"), loop.inputs_of(name)
    frames = case["N"]
    image = shared["ref_image"][0]
    noise = inputs.get("ref_noise", torch.zeros(1, *image.shape))
    mask = inputs["face_mask"].float()[:, None]
    if len(mask) > 1:
        mask = torch.cat([mask, mask[-1:].expand(padding(settings.schedule, settings.window), -1, -1, -1)])
    portrait = EncodedPortrait(
        embed_portrait(networks.image_encoder, shared["clip_image"][0], CPU),
        *encode_picture(networks.vae, image, noise, settings.portrait_noise, CPU),
        mask[:1],
        None if networks.pose_guider is None else pose_features(networks.pose_guider, mask, CPU),
    )
    variant, emotional = variant_of(loop), "emotion" in inputs
    model = DiceModel(
        unet=networks.unet,
        audio_projection=RecordedAudio(inputs["audio"], inputs["uncond_audio"]),
        emotion_model=RecordedEmotions(inputs["emotion"], inputs["uncond_emotion"]) if emotional else None,
        **dict.fromkeys(("pose_guider", "vae", "image_encoder", "whisper", "flownet", "embedder", "expression_reader")),
        priors={},
        detector_path=None,
        config=replace(variant.config, unet=networks.unet.config),
        dtype=torch.float32,
        adapters=variant.adapters,
        audio_to_bucket=RecordedBuckets(inputs["motion_buckets"]) if "motion_buckets" in inputs else None,
    )

    def with_recorded(unet: UNet, made: Conditioning, *arguments: object) -> PredictV:
        for kind in made.adapters:
            recorded = inputs[f"uncond_{kind}"]
            if len(recorded) > 1:
                made = replace(made, adapters=made.adapters | {kind: own_unconditional(made.adapters[kind], recorded)})
        return guided(unet, made, *arguments)

    track = numbered_emotions(len(inputs["emotion"])) if emotional else None
    assert track is None or track.is_constant or len(inputs["emotion"]) == frames
    start = inputs["latents"][0] if "gen" not in case else None  # else drawn by the pipeline
    return denoise(
        model, portrait, numbered_speech(frames), track, settings, guided=with_recorded, noise=start, hooks=hooks
    )


def condition(loop: GoldenFile, networks: Networks, name: str, settings: SamplerSettings) -> Conditioning:
    """What the pipeline hands to the guided network."""
    handed = []

    def keep(unet: UNet, conditioning: Conditioning, *arguments: object) -> PredictV:
        handed.append(conditioning)
        return lambda x, sigma, frames, step: torch.zeros_like(x)

    run(loop, networks, name, settings, keep)
    return handed[0]


def noise_of(loop: GoldenFile, networks: Networks, name: str) -> torch.Tensor:
    """The unit noise ``(frames and padding, channels, h, w)`` that case `name` starts from, stored or drawn."""
    case, inputs = loop.cases[name], loop.inputs_of(name)
    if "latents" in inputs or "gen" not in case:
        return inputs["latents"][0]
    size = loop.inputs("shared/")["ref_image"].shape[-2:]
    channels = networks.vae.config.latent_channels
    total = case["N"] + padding(variant_of(loop).settings.schedule, case["fpb"])
    return draw_noise(case["gen"], total, tuple(size), channels).latents


@each_case
@torch.inference_mode()
def test_loop(loop: GoldenFile, networks: Networks, file_name: str, case: str) -> None:
    name, case = case, loop.cases[case]
    outputs = set(loop.output_names(f"{name}/"))
    settings = settings_of(loop, name)
    assert settings.steps_run == case.get("steps_run", settings.steps_run)

    def check(what: str, actual: torch.Tensor) -> None:
        if f"{name}/{what}" in outputs:
            loop.check(f"{name}/{what}", actual)

    calls, first, levels, ids = [], {}, {}, []
    before = torch.full((settings.steps_run, *noise_of(loop, networks, name).shape), torch.nan)

    def recorded(unet: UNet, conditioning: Conditioning, *arguments: object) -> PredictV:
        network = GuidedUNet(unet, conditioning, *arguments)
        if conditioning.pose is not None:
            check("pose_features_frame0", conditioning.pose[0])
        check("guidance_scale1", torch.tensor(network.portrait_guidance))
        check("guidance_scale2", torch.tensor(network.expression_guidance))

        def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
            v = network(x, sigma, frames, step)
            if not calls:
                check("guided_step0_window0", v[None])
            calls.append([step, sum(c[0] == step for c in calls), frames])
            levels[step] = sigma
            before[step][frames] = x * (sigma**2 + 1).sqrt()
            return v

        return predict

    def spy(module: torch.nn.Module, args: tuple) -> None:
        first.setdefault("sample", args[0])
        assert (args[2] == args[2][:1]).all(), "the same in every branch"
        ids.append(args[2][0])

    hook = networks.unet.register_forward_pre_hook(spy)
    made = run(loop, networks, name, settings, recorded)
    hook.remove()
    assert made.frames == case["N"]
    check("latents", made.values[None])
    check("latents_before_step0", before[0][None])
    for step in range(settings.steps_run - 1):
        check(f"latents_after_step{step}", before[step + 1][None])
    assert calls == case.get("windows", calls)
    if f"{name}/unet_call0/sample" in outputs:
        # The fixture has the first two branches, of which one of weight zero is not computed.
        ramps = settings.portrait_guidance, settings.expression_guidance
        branches = guidance_branches(*(ramp_ends(ramp)[0] for ramp in ramps))
        computed = [row for row, branch in enumerate(branches) if not branch.expression]
        stored = loop.tensors[f"out/{name}/unet_call0/sample"][[int(branches[row].portrait) for row in computed]]
        loop.check(f"{name}/unet_call0/sample", first["sample"][computed], stored)
    if "added_time_ids" in case:
        assert ids[0].tolist() == case["added_time_ids"][0]
    check("added_time_ids", torch.stack(ids).unflatten(0, (settings.steps_run, -1)))

    # The whole schedule is recorded; of it the last steps are run.
    given = torch.stack([levels[step] for step in range(settings.steps_run)])
    unused = settings.steps - settings.steps_run
    for what, rest in (("sigmas", torch.cat([given, torch.zeros(1)])), ("timesteps", sigma_to_timestep(given))):
        if f"{name}/{what}" in outputs:
            check(what, torch.cat([loop.tensors[f"out/{name}/{what}"][:unused], rest]))

    strided = [what for what in outputs if "frames_stride" in what]
    if not strided:
        return
    frames = torch.cat(list(decode_frames(networks.vae, made.values, case["N"], chunk=case["chunk"], residency=CPU)))
    for what in strided:
        stride = int(what.rpartition("stride")[2])
        # The fixture is the decoder's output in -1..1, unclamped; ours is the picture in 0..1.
        picture = frames.transpose(0, 1)[None][..., ::stride, ::stride]
        loop.check(what, picture, (loop.tensors[f"out/{what}"] * 0.5 + 0.5).clamp(0, 1))


def changing(loop: GoldenFile) -> str:
    """The recorded case with most of: an emotion that changes, a part of the noise range, a ramp of each guidance."""

    def changes(name: str) -> int:
        case, inputs = loop.cases[name], loop.inputs(f"{name}/")
        ramps = sum(case[guidance][0] != case[guidance][1] for guidance in ("g1", "g2"))
        return ramps + (case.get("strength", 1.0) < 1) + (len(inputs.get("emotion", ())) > 1)

    found = [
        name for name in loop.cases if "audio" in loop.inputs(f"{name}/") and f"{name}/latents" in loop.output_names()
    ]
    if not found:
        pytest.skip(f"{loop.name}: no case with inputs and final latents is recorded")
    return max(found, key=changes)


@each_file
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.35, 0.8)], ids=str)
@torch.inference_mode()
def test_adapter_scales(loop: GoldenFile, networks: Networks, file_name: str, scales: tuple[float, float]) -> None:
    """No recorded case has other scales than 1, so the method written out stands for the released program.

    With scales of 1 it is compared with the recorded latents itself.
    """
    name = changing(loop)
    case, inputs = loop.cases[name], loop.inputs_of(name)
    settings = settings_of(loop, name, audio_scale=scales[0], emotion_scale=scales[1])
    given = condition(loop, networks, name, settings)
    noise = noise_of(loop, networks, name)
    total = len(noise)

    def for_all(recorded: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """One row a frame, the first unconditional one in the padding."""
        rows = recorded.expand(case["N"], -1, -1) if len(recorded) == 1 else recorded
        return torch.cat([rows, rest[:1].expand(total - case["N"], -1, -1)])

    clip = PlainClip(
        noise,
        given.clip_token[0],
        given.image_latents,
        given.start_latents,
        given.mask,
        None if given.pose is None else given.pose.expand(total, -1, -1, -1),
        *(
            for_all(inputs[key], inputs[f"uncond_{kind}"])
            for kind in given.adapters
            for key in (kind, f"uncond_{kind}")
        ),
        buckets=inputs["motion_buckets"] * case["scale"] if "motion_buckets" in inputs else None,
    )
    plain = PlainSettings(
        case["steps"],
        settings.steps_run,
        lambda step: [frames for number, _, frames in case["windows"] if number == step],
        tuple(case["g1"]),
        tuple(case["g2"]),
        *scales,
        settings.motion_bucket,
        settings.expression_bucket,
    )
    expected = plain_latents(networks.unet, clip, plain)
    atol = loop.entry["tolerance"][f"{name}/latents"]["atol"]
    made = run(loop, networks, name, settings, GuidedUNet)
    assert (made.values - expected).abs().max() <= atol
    if scales == (1.0, 1.0):
        loop.check(f"{name}/latents", expected.float()[None])
    else:
        assert (made.values - loop.tensors[f"out/{name}/latents"][0]).abs().max() > 100 * atol


@each_file
def test_shared_encodings(loop: GoldenFile, networks: Networks, file_name: str) -> None:
    shared = loop.inputs("shared/")
    image = shared["ref_image"][0]
    latents, start = encode_picture(networks.vae, image, torch.zeros(1, *image.shape), 0.0, CPU)
    made = {"shared/vae_mean": latents[None]}
    assert torch.allclose(start, latents * networks.vae.config.scaling_factor)
    made["shared/image_embeds"] = embed_portrait(networks.image_encoder, shared["clip_image"][0], CPU)[0]
    loop.check_recorded(made)


@each_case
def test_noise_is_drawn_in_the_released_order(loop: GoldenFile, file_name: str, case: str) -> None:
    table, inputs = loop.cases[case], loop.inputs(f"{case}/")
    if "gen" not in table:
        pytest.skip("the noise is given, not drawn")
    image, latents = inputs["ref_noise"], inputs["latents"]
    noise = draw_noise(table["gen"], latents.shape[1], tuple(image.shape[-2:]), latents.shape[2])
    assert torch.equal(noise.portrait, image)
    assert torch.equal(noise.latents, latents[0])


def rounding(loop: GoldenFile, case: str, expected: torch.Tensor) -> float:
    """Difference that another order of the same sums may make: what the set itself allows one prediction."""
    recorded = loop.entry["tolerance"].get(f"{case}/guided_step0_window0", {}).get("atol")
    return max(2e-5, recorded if recorded is not None else 1e-4 * expected.abs().max().item())


@each_case
@torch.inference_mode()
def test_savings_are_exact(loop: GoldenFile, networks: Networks, file_name: str, case: str) -> None:
    """Projecting once or per window, branches together or one by one, or none of the savings: the same prediction."""
    frames = loop.cases[case]["windows"][0][2]
    x = noise_of(loop, networks, case)[frames]
    results = []
    for changes in ({}, {"key_value_budget": 0}, {"batched_guidance": False}):
        settings = settings_of(loop, case, **changes)
        conditioning = condition(loop, networks, case, settings)
        network = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32)
        results.append(network(x, torch.tensor(3.0), frames, 0))
    mask_is_constant = conditioning.pose is None or len(conditioning.pose) == 1
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
        assert (other - results[0]).abs().max() < rounding(loop, case, results[0])


@each_case
@torch.inference_mode()
def test_out_of_memory_runs_branches_one_at_a_time(
    loop: GoldenFile, networks: Networks, file_name: str, case: str
) -> None:
    settings = settings_of(loop, case)
    conditioning = condition(loop, networks, case, settings)
    frames = loop.cases[case]["windows"][0][2]
    x = noise_of(loop, networks, case)[frames]
    notices, sizes = [], []

    def no_memory(module: torch.nn.Module, args: tuple) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    plain = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32)
    expected = plain(x, torch.tensor(3.0), frames, 0)
    hooks = Hooks(notice=notices.append)
    poor = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32, hooks)
    hook = networks.unet.register_forward_pre_hook(no_memory)
    try:
        results = [poor(x, torch.tensor(3.0), frames, 0) for _ in range(2)]
    finally:
        hook.remove()
    for result in results:
        assert (result - expected).abs().max() < rounding(loop, case, expected)
    assert len(notices) == 1 and "one at a time" in notices[0]
    assert sizes == [sizes[0]] + [1] * (2 * sizes[0])

    # Memory does not suffice for one branch beside the clip's keys and values: they are given up; the result stays.
    def no_memory_beside_them(module: torch.nn.Module, args: tuple) -> None:
        if len(args[0]) > 1 or any(projected.kept is not None for _, projected in poor.adapters):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    notices.clear()
    poor = GuidedUNet(networks.unet, conditioning, settings, torch.device("cpu"), torch.float32, hooks)
    hook = networks.unet.register_forward_pre_hook(no_memory_beside_them)
    try:
        assert (poor(x, torch.tensor(3.0), frames, 0) - expected).abs().max() < rounding(loop, case, expected)
    finally:
        hook.remove()
    assert len(notices) == 2 and "projected again for each window" in notices[1]

    def no_memory_at_all(module: torch.nn.Module, args: tuple) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = networks.unet.register_forward_pre_hook(no_memory_at_all)
    try:
        with pytest.raises(NotEnoughMemoryError, match=f"window of {len(frames)} frames.*smaller picture size"):
            poor(x, torch.tensor(3.0), frames, 0)
    finally:
        hook.remove()
