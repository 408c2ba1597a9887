"""Silence around speech and inside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicetalk.audio.level import audible, audible_levels, frame_levels
from dicetalk.audio.silence import pad_speech, quiet_frames, shut_in_silence, with_pauses
from dicetalk.audio.speech import load_speech
from dicetalk.errors import SettingError, SpeechError
from dicetalk.talk import DiceTalk


def speech(seconds: float = 2.0):
    noise = np.random.default_rng(0).normal(0, 0.1, (round(seconds * 44_100), 2)).astype(np.float32)
    return load_speech((noise, 44_100))


@pytest.mark.long
def test_silence_around_speech_is_as_long_for_the_network_as_for_the_viewer() -> None:
    plain = speech()
    padded = pad_speech(plain, 0.5, 1.25)
    assert len(padded.samples) == len(plain.samples) + 8_000 + 20_000
    assert padded.sound.shape == (2, plain.sound.shape[1] + 22_050 + 55_125)
    assert not padded.samples[:8_000].any() and not padded.samples[-20_000:].any()
    assert np.array_equal(padded.samples[8_000:-20_000], plain.samples)
    assert np.array_equal(padded.sound[:, 22_050:-55_125], plain.sound)
    assert pad_speech(plain) is plain
    for start, end in ((-1, 0), (0, 61), (float("nan"), 0)):
        with pytest.raises(SettingError, match="from 0 to 60"):
            pad_speech(plain, start, end)
    hour = load_speech((np.zeros(8_000 * 3590, np.int16), 8_000))
    with pytest.raises(SpeechError, match="an hour is the most"):
        pad_speech(hour, 0, 20)


def test_quiet_frames_are_those_with_nothing_beside_them() -> None:
    samples = np.zeros(20 * 1280, np.float32)
    samples[5 * 1280 : 5 * 1280 + 400] = np.random.default_rng(1).normal(0, 0.1, 400)
    samples[12 * 1280 :] = np.random.default_rng(0).normal(0, 10 ** (-50 / 20), 8 * 1280)
    assert torch.nonzero(~quiet_frames(samples, -45.0)).flatten().tolist() == [4, 5, 6]
    assert torch.nonzero(~quiet_frames(samples, -60.0)).flatten().tolist() == [4, 5, 6, *range(11, 20)]
    with pytest.raises(SettingError, match="from -120 to 0"):
        quiet_frames(samples, 3.0)
    with pytest.raises(SettingError, match="from -120 to 0"):
        shut_in_silence(speech(), -200.0)


@pytest.mark.parametrize("hertz", [0.0, 8.0, 25.0])
def test_what_nobody_hears_as_voice_is_quiet(hertz: float) -> None:
    """An offset and rumble of -34 dB, with voice of -20 dB in the middle; a tone of 200 Hz at that level is heard."""
    time = np.arange(20 * 1280) / 16_000
    voice = np.zeros(len(time))
    voice[8 * 1280 : 12 * 1280] = np.random.default_rng(0).normal(0, 0.1, 4 * 1280)

    def under_voice(hertz: float) -> np.ndarray:
        return (voice + (0.02 if hertz == 0 else 0.028 * np.sin(2 * np.pi * hertz * time))).astype(np.float32)

    assert torch.nonzero(~quiet_frames(under_voice(hertz), -45.0)).flatten().tolist() == list(range(7, 13))
    assert not quiet_frames(under_voice(200.0), -45.0).any()


def test_long_speech_is_judged_as_short_speech_is() -> None:
    """It is filtered in parts; each part hears what lies around it."""
    rng = np.random.default_rng(0)
    samples = (np.sin(2 * np.pi * 20 * np.arange(60 * 16_000) / 16_000) * 0.05).astype(np.float32)
    samples += rng.normal(0, 1, len(samples)).astype(np.float32) * np.repeat(rng.choice([0, 0.05], 750), 1280)
    levels = frame_levels(audible(samples), 320)
    assert np.abs(audible_levels(samples, 320) - levels)[levels > -70].max() < 0.1


def test_quiet_frames_are_silent_for_the_network_alone() -> None:
    plain = speech(2.0)
    loud = plain.samples.copy()
    loud[8 * 1280 : 14 * 1280] *= 0.001
    paused = replace(plain, samples=loud)
    assert with_pauses(paused) is loud
    heard = with_pauses(shut_in_silence(paused, -60.0))
    assert not heard[9 * 1280 + 160 : 13 * 1280 - 160].any() and loud[9 * 1280 + 160 : 13 * 1280 - 160].any()
    assert np.array_equal(heard[: 9 * 1280], loud[: 9 * 1280])
    assert np.array_equal(heard[13 * 1280 :], loud[13 * 1280 :])
    assert (np.abs(heard) <= np.abs(loud)).all()
    assert with_pauses(shut_in_silence(plain, -60.0)) is plain.samples


@pytest.fixture(scope="module")
def talk() -> DiceTalk:
    return DiceTalk.load("tiny", device="cpu")


@pytest.mark.long
def test_the_threshold_changes_the_clip_only_when_asked(talk: DiceTalk) -> None:
    picture = np.asarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3)), np.uint8)
    options = {"whole_picture": True, "interpolate": False, "steps": 2}
    noisy = pad_speech(speech(0.5), 0.5)
    noise = np.random.default_rng(1).normal(0, 1e-2, noisy.samples.shape).astype(np.float32)
    noisy = replace(noisy, samples=noisy.samples + noise)
    off, again, digital, on = (
        talk.generate(picture, noisy, silence_below=below, **options).latents.values
        for below in (None, None, -119.0, -30.0)
    )
    assert torch.equal(off, again) and torch.equal(off, digital)
    assert not torch.equal(off, on)
