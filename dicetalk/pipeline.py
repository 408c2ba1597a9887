"""The line from a portrait, speech and an emotion to a video, walked once from top to bottom."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from dicetalk.adapters import Conditions
from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.silence import with_pauses
from dicetalk.audio.speech import Speech
from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints.load import DiceModel
from dicetalk.denoise.conditioning import (
    Conditioning,
    EncodedPortrait,
    embed_portrait,
    encode_picture,
    pad_tokens,
    pose_features,
)
from dicetalk.denoise.guided import GuidedUNet, sampling_bytes
from dicetalk.denoise.latents import Latents, Noise, draw_noise
from dicetalk.denoise.sampler import PredictV, karras_sigmas, sample_clip
from dicetalk.denoise.windows import padding, window_schedule
from dicetalk.emotion.bank import EmotionModel
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.voice.features import measure_voice
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.motion.ids import added_ids, check_length
from dicetalk.motion.parse import follow_voice
from dicetalk.portrait.prepare import Portrait
from dicetalk.residency import CPU, Residency
from dicetalk.settings import FPS, SamplerSettings, VideoSettings
from dicetalk.video.clip import exact_fps
from dicetalk.video.decode import decode_frames
from dicetalk.video.interpolate import interpolate_frames
from dicetalk.video.retime import hold_frames, retime_frames, retimed_length

NO_INTERPOLATION = f"This model has no frame interpolation (RIFE): the video has {FPS} frames a second."
HELD_FRAMES = (
    f"This model has no frame interpolation (RIFE): its {FPS} frames a second are repeated to make {{fps:g}}. For "
    "frames in between, fetch RIFE/flownet.pkl into the models folder: dicetalk download FOLDER."
)

NO_EMOTIONS = (
    "This model has no emotions, only speech. For emotions load DICE-Talk (`dicetalk download FOLDER` fetches it), or "
    "the bundled model `tiny`."
)
NO_EMOTION = f"{NO_EMOTIONS} The emotion that was given is not used."


def generate_latents(
    model: DiceModel,
    portrait: Portrait,
    speech: Speech,
    emotion: EmotionTrack | None,
    settings: SamplerSettings,
    *,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
    guided: Callable[..., PredictV] = GuidedUNet,
) -> Latents:
    """Denoise a clip that is as long as the speech.

    Args:
        model: all networks.
        portrait: as :func:`dicetalk.portrait.prepare.prepare_portrait` made it.
        speech: as :func:`dicetalk.audio.speech.load_speech` made it.
        emotion: one emotion, or one that changes over the clip; `None` for a model without an emotion adapter.
        settings: of the sampler.
        residency: where networks run.
        hooks: progress of `speech`, `portrait` and `sample`.
        guided: makes the guided network; the benchmark puts another one here.

    Raises:
        SpeechError: the speech is shorter than one frame, or than what the model predicts motion from.
        Cancelled: the caller asked to stop.
    """
    settings = follow_voice(settings, lambda: measure_voice(speech.samples, hooks))
    features = speech_features(with_pauses(speech), model.whisper, residency=residency, hooks=hooks)
    check_length(model.audio_to_bucket, features, settings)
    encoded = encode_portrait(model, portrait, settings, residency=residency, hooks=hooks)
    return denoise(model, encoded, features, emotion, settings, residency=residency, hooks=hooks, guided=guided)


def encode_portrait(
    model: DiceModel,
    portrait: Portrait,
    settings: SamplerSettings,
    *,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> EncodedPortrait:
    """Run the networks that see the portrait.

    Of `settings` only `portrait_noise` has an influence, and `seed` where there is such noise.

    Args:
        model: all networks.
        portrait: as :func:`dicetalk.portrait.prepare.prepare_portrait` made it.
        settings: of the sampler.
        residency: where networks run.
        hooks: progress of `portrait`.

    Raises:
        Cancelled: the caller asked to stop.
    """
    hooks.check()
    noise = _noise(model, portrait.image.shape[-2:], 0, settings).portrait
    image_latents, start_latents = encode_picture(
        model.vae, portrait.image, noise, settings.portrait_noise, residency, half=encodes_in_half(model), hooks=hooks
    )
    hooks.check()
    clip_token = embed_portrait(model.image_encoder, portrait.clip_pixels, residency)
    hooks.check()
    mask = portrait.mask[None]
    pose = None if model.pose_guider is None else pose_features(model.pose_guider, mask, residency)
    hooks.report("portrait", 1, 1)
    return EncodedPortrait(clip_token, image_latents, start_latents, mask, pose)


def encodes_in_half(model: DiceModel) -> bool:
    """Whether the portrait is encoded in float16: in a model that was made so and is used in it."""
    return model.config.sampling.portrait_dtype == "float16" and model.dtype == torch.float16


def denoise(
    model: DiceModel,
    portrait: EncodedPortrait,
    features: SpeechFeatures,
    emotion: EmotionTrack | None,
    settings: SamplerSettings,
    *,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
    guided: Callable[..., PredictV] = GuidedUNet,
    noise: torch.Tensor | None = None,
) -> Latents:
    """Denoise a clip whose portrait and speech are encoded already.

    Args:
        model: all networks.
        portrait: as :func:`encode_portrait` made it.
        features: as :func:`dicetalk.audio.whisper.speech_features` made them; at least one frame.
        emotion: one emotion, or one that changes over the clip; `None` for a model without an emotion adapter.
        settings: of the sampler.
        residency: where networks run.
        hooks: progress of `sample`.
        guided: as in :func:`generate_latents`.
        noise: standard normal ``(frames with padding, latent channels, h, w)`` that the clip starts from, left as it
            is; drawn from the seed if `None`.

    Raises:
        SettingError: `retrieval` is asked of a model without an emotion bank, the model needs an emotion, or a bucket
            follows the voice (:func:`dicetalk.motion.parse.follow_voice` comes first).
        SpeechError: the speech is shorter than what the model predicts motion from.
        Cancelled: the caller asked to stop.
    """
    if emotion is not None and not model.has_emotions:
        hooks.notice(NO_EMOTION)
    if settings.retrieval and not isinstance(model.emotion_model, EmotionModel):
        raise SettingError("retrieval takes the nearest entry of the emotion bank, and this model has no bank.")
    frames = features.frames
    total = frames + padding(settings.schedule, settings.window)
    x = _noise(model, portrait.mask.shape[-2:], total, settings).latents if noise is None else noise.clone()
    given = Conditions(features, emotion, settings)
    tokens = {adapter.name: adapter.tokens(adapter.of(model), model.config, given) for adapter in model.adapters}
    ids = added_ids(model.audio_to_bucket, portrait.clip_token, features, settings, residency, hooks)
    height, width = portrait.image_latents.shape[-2:]
    token_rows = [(len(each.rows), each.rows.tokens) for each in tokens.values()]
    schedule = window_schedule(settings.schedule, total, settings.window, settings.overlap, settings.shift)
    longest = max(map(len, schedule(0)))
    needed = sampling_bytes(model.unet, settings, longest, (height, width), token_rows, model.dtype)
    networks = model.unet, *(adapter.of(model) for adapter in model.adapters)
    with torch.no_grad(), residency(*networks, memory_required=needed) as device:
        conditioning = Conditioning(
            **vars(portrait),
            adapters={name: pad_tokens(each, total - frames) for name, each in tokens.items()},
            added_ids=ids[torch.arange(total).clamp(max=len(ids) - 1)] if len(ids) > 1 else ids,
        )
        network = guided(model.unet, conditioning, settings, device, model.dtype, hooks)
        levels = karras_sigmas(settings.steps, model.config.sampling.sigma_min, model.config.sampling.sigma_max)
        sigmas = levels[settings.steps - settings.steps_run :]
        x.mul_(sigmas[0]).add_(conditioning.start_latents)
        return Latents(sample_clip(network, x, sigmas, schedule, hooks, settings.solver), frames)


def _noise(model: DiceModel, picture_size: tuple[int, ...], frames: int, settings: SamplerSettings) -> Noise:
    height, width = picture_size
    return draw_noise(settings.seed, frames, (height, width), model.config.vae.latent_channels)


@dataclass(frozen=True)
class Clip:
    """A decoded clip as a stream.

    Args:
        chunks: frames ``(n, 3, H, W)`` in 0..1 on the CPU, float32; can be walked once.
        frames: how many frames `chunks` gives in all.
        fps: frames per second.
    """

    chunks: Iterator[torch.Tensor]
    frames: int
    fps: float


def render(
    model: DiceModel,
    latents: Latents,
    *,
    decode_chunk: int | None = None,
    interpolate: bool = True,
    fps: Fraction | float | None = None,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> Clip:
    """Decode a sampled clip, chunk by chunk, and put a frame between each pair.

    Args:
        model: all networks.
        latents: as :func:`generate_latents` made them.
        decode_chunk: frames that the temporal decoder sees together; what the model was made for if `None`, another
            number gives slightly different pictures.
        interpolate: double the frame rate by RIFE, ``n`` frames become ``2 n - 1``; a model without RIFE gives a notice
            and its own 12.5 fps.
        fps: another frame rate, see :func:`check_fps`. A model without RIFE reaches it by showing frames several
            times, with a notice.
        residency: where networks run.
        hooks: progress of `decode` and `interpolate`.

    Raises:
        SettingError: `fps` is out of range, or given without `interpolate`.
    """
    check_fps(fps, interpolate)
    chunk = model.config.sampling.decode_chunk if decode_chunk is None else decode_chunk
    chunks = decode_frames(model.vae, latents.values, latents.frames, chunk=chunk, residency=residency, hooks=hooks)
    clip = Clip(chunks, latents.frames, FPS)
    if not interpolate or fps == FPS:
        return clip
    if fps is not None:
        return _retimed(model, clip, exact_fps(fps), residency, hooks)
    if model.flownet is None:
        hooks.notice(NO_INTERPOLATION)
        return clip
    frames = 2 * clip.frames - 1
    smooth = interpolate_frames(model.flownet, clip.chunks, clip.frames, residency=residency, hooks=hooks)
    return replace(clip, chunks=smooth, frames=frames, fps=2 * FPS)


def check_fps(fps: Fraction | float | None, interpolate: bool = True) -> None:
    """Refuse a frame rate that :func:`render` cannot make.

    Args:
        fps: in the range of :class:`dicetalk.settings.VideoSettings`; or `None`, for what `interpolate` says.
        interpolate: new frames may be made.

    Raises:
        SettingError: it is out of range, or needs the interpolation that is switched off.
    """
    if fps is None:
        return
    VideoSettings(fps=float(fps))
    if not interpolate and fps != FPS:
        raise SettingError(
            f"fps is {float(fps):g}, and interpolation is off, which gives {FPS}. Leave one of them out."
        )


def _retimed(model: DiceModel, clip: Clip, fps: Fraction, residency: Residency, hooks: Hooks) -> Clip:
    step = Fraction(clip.fps) / fps
    if model.flownet is None:
        hooks.notice(HELD_FRAMES.format(fps=float(fps)))
        chunks = hold_frames(clip.chunks, step)
    else:
        chunks = retime_frames(model.flownet, clip.chunks, clip.frames, step, residency=residency, hooks=hooks)
    return Clip(chunks, retimed_length(clip.frames, step), float(fps))
