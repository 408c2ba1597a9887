"""Added ids of every frame: frames per second, motion bucket and expression bucket."""

import torch

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.projection import AudioToBucket
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.parameters import FromVoice, Timed, parameters
from dicetalk.residency import CPU, Residency
from dicetalk.settings import FPS, SamplerSettings

BUCKETS = ("motion_bucket", "expression_bucket")
PREDICTED_FRAMES = 256
"""Frames whose buckets are predicted at once; their states overlap, and are copied."""

NO_PREDICTION = "motion_amount scales motion that a network predicts from the speech, and here it predicts none."
FIXED = (
    "{name} {value:g} is not used: the motion comes from the speech. Scale it with motion_amount, or give {name} "
    "over time; a list of one number, [{value:g}], holds throughout."
)


def is_predicted(network: AudioToBucket | None, settings: SamplerSettings) -> bool:
    """Whether a bucket is predicted: there is a network, and not both have values over time of their own."""
    return network is not None and not all(isinstance(getattr(settings, name), tuple) for name in BUCKETS)


def check_length(network: AudioToBucket | None, features: SpeechFeatures, settings: SamplerSettings) -> None:
    """Refuse speech that is too short for the network that predicts its motion.

    Raises:
        SpeechError: it is.
    """
    if network is not None and is_predicted(network, settings):
        features.last_windows(network.config.window)


def predict_buckets(
    network: AudioToBucket, clip_token: torch.Tensor, features: SpeechFeatures, residency: Residency = CPU
) -> torch.Tensor:
    """Motion bucket and expression bucket of each frame, float32 ``(frames, 2)`` on the CPU.

    Args:
        network: Sonic's; it sees the same Whisper states and image embedding in every model.
        clip_token: image embedding of the portrait, ``(1, 1, image_dim)``.
        features: of the speech.
        residency: where the network runs.

    Raises:
        SpeechError: the speech is too short.
    """
    windows, dtype = features.last_windows(network.config.window), next(network.parameters()).dtype
    with torch.no_grad(), residency(network) as device:
        image = clip_token[0].to(device, dtype)
        parts = [network.buckets(part.to(device, dtype), image) for part in windows.split(PREDICTED_FRAMES)]
    return torch.cat(parts).float().cpu()


def added_ids(
    network: AudioToBucket | None,
    clip_token: torch.Tensor,
    features: SpeechFeatures,
    settings: SamplerSettings,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> torch.Tensor:
    """Added ids ``(frames, 3)``, or ``(1, 3)`` where they are the same throughout, float32 on the CPU.

    A bucket with values over time has these, the last one held. Another one is what `network` predicts, times
    `motion_amount`; without a network it is the number of the settings.

    Args:
        network: predicts buckets, or `None`.
        clip_token: as for :func:`predict_buckets`.
        features: of the speech.
        settings: buckets, and the amount of predicted motion.
        residency: where the network runs.
        hooks: receives a notice of values that are not used.

    Raises:
        SettingError: a bucket is to follow the voice, which was not measured.
        SpeechError: the speech is too short for the network.
    """
    predicted = None
    if network is not None and is_predicted(network, settings):
        predicted = predict_buckets(network, clip_token, features, residency) * settings.motion_amount
    elif settings.motion_amount != 1:
        hooks.notice(NO_PREDICTION)
    defaults = {each.name: each.default for each in parameters(SamplerSettings)}
    columns = [torch.full((features.frames,), FPS)]
    for place, name in enumerate(BUCKETS):
        value: Timed = getattr(settings, name)
        if isinstance(value, FromVoice):
            raise SettingError(f"{name} follows the voice, which was not measured: see dicetalk.motion.parse.")
        if isinstance(value, tuple):
            columns.append(_held(name, value, features.frames, hooks))
        elif predicted is not None:
            columns.append(predicted[:, place])
            if value != defaults[name]:
                hooks.notice(FIXED.format(name=name, value=value))
        else:
            columns.append(torch.full((features.frames,), float(value)))
    ids = torch.stack(columns, dim=1)
    return ids[:1] if (ids == ids[:1]).all() else ids


def _held(name: str, values: tuple[float, ...], frames: int, hooks: Hooks) -> torch.Tensor:
    """One value a frame, the last one repeated; keyframes may end at the first moment after the last frame."""
    unused = len(values) - frames
    if unused > 1:
        hooks.notice(f"{name}: the last {unused} of {len(values)} values lie after the end of the clip.")
    return torch.tensor([*values[:frames], *[values[-1]] * -unused])
