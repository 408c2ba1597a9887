"""Reading speech: lengths, layouts, formats, bad input, memory."""

import math
import re
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.audio.decode import Source
from dicetalk.audio.speech import SOUND_SAMPLE_RATES, Speech, _convert, load_speech
from dicetalk.errors import Cancelled, SpeechError
from dicetalk.hooks import SILENT, Hooks


def tone(seconds: float, rate: int, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    """A sine at half of full scale, ``(n, channels)``; each further channel is quieter."""
    t = np.arange(round(seconds * rate)) / rate
    loudness = 0.5 / (1 + np.arange(channels))
    return (np.sin(2 * np.pi * hertz * t)[:, None] * loudness).astype(np.float32)


def write_av(path: Path, codec: str, samples: np.ndarray, rate: int, picture: bool = False) -> None:
    """Encode mono `samples` ``(n, 1)`` with PyAV, optionally beside a video stream."""
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        if picture:
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(video.encode(image) + video.encode(None))
        step = stream.frame_size or 1024
        for start in range(0, len(samples), step):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[start : start + step].T), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# Lengths


@settings(max_examples=150, deadline=None)
@given(
    rate=st.one_of(st.sampled_from([*SOUND_SAMPLE_RATES, 96_000, 192_000]), st.integers(8_000, 192_000)),
    channels=st.integers(1, 8),
    seconds=st.floats(0.1, 1.5),
)
def test_lengths(rate: int, channels: int, seconds: float) -> None:
    n = math.ceil(seconds * rate)
    speech = load_speech((np.zeros((n, channels), np.float32) + 0.1, rate))
    assert len(speech.samples) == -(-n * 16_000 // rate)
    assert speech.frames == len(speech.samples) // 1280 >= 1
    assert abs(speech.frames / 12.5 - n / rate) <= 1 / 12.5 + 1 / 16_000
    assert speech.sound_sample_rate in SOUND_SAMPLE_RATES
    assert speech.sound_sample_rate >= min(rate, 48_000)
    assert speech.sound.shape == (min(channels, 2), -(-n * speech.sound_sample_rate // rate))
    assert speech.samples.dtype == speech.sound.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(rate=st.integers(8_000, 192_000), start=st.floats(0, 0.5), duration=st.floats(0.1, 2))
def test_parts(rate: int, start: float, duration: float) -> None:
    n = rate
    speech = load_speech((np.full(n, 0.1, np.float32), rate), start=start, duration=duration)
    taken = min(round(start * rate) + round(duration * rate), n) - round(start * rate)
    assert len(speech.samples) == -(-taken * 16_000 // rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_tone_stays_that_tone(rate: int) -> None:
    speech = load_speech((tone(1, rate, 2), rate))
    t = np.arange(16_000) / 16_000
    expected = 0.375 * np.sin(2 * np.pi * 440 * t)
    inner = slice(400, -400)
    assert np.abs(speech.samples - expected)[inner].max() < 2e-3
    for channel, loudness in zip(speech.sound, (0.5, 0.25), strict=True):
        t = np.arange(len(channel)) / speech.sound_sample_rate
        assert np.abs(channel - loudness * np.sin(2 * np.pi * 440 * t))[inner].max() < 2e-3


def test_a_part_is_the_same_as_cutting_first() -> None:
    samples = np.random.default_rng(0).standard_normal((48_000, 2)).astype(np.float32) * 0.1
    part = load_speech((samples, 16_000), start=0.5, duration=1.25)
    assert np.array_equal(part.sound, samples[8_000:28_000].T)
    assert np.array_equal(part.samples, samples[8_000:28_000].mean(axis=1))


# Layouts and types


def test_layouts_of_arrays_and_tensors() -> None:
    samples = tone(0.5, 16_000, 2)
    expected = load_speech((samples, 16_000))
    assert np.array_equal(expected.sound, samples.T)
    for same in (
        samples.T,
        samples[None].transpose(0, 2, 1),
        torch.from_numpy(samples),
        torch.from_numpy(samples.T)[None],
    ):
        got = load_speech((same, 16_000.0))
        assert np.array_equal(got.sound, expected.sound) and np.array_equal(got.samples, expected.samples)
    mono = samples[:, 0]
    for same in (
        mono,
        mono[None],
        mono[:, None],
        mono[None, None],
        mono.tolist(),
        torch.from_numpy(mono).requires_grad_(),
    ):
        assert np.array_equal(load_speech((same, 16_000)).samples, mono)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float16, np.float32, np.float64])
def test_types(dtype: type) -> None:
    samples = tone(0.2, 16_000)[:, 0].astype(np.float64)
    if dtype == np.uint8:
        typed, step = np.round(samples * 128 + 128).astype(dtype), 1 / 128
    elif np.issubdtype(dtype, np.integer):
        typed, step = np.round(samples * (np.iinfo(dtype).max + 1)).astype(dtype), 1 / 32768
    else:
        typed, step = samples.astype(dtype), 1e-3
    assert np.abs(load_speech((typed, 16_000)).samples - samples).max() <= step


def test_integers_are_scaled_exactly_as_files_are(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", pcm, 16_000, subtype="PCM_16")
    assert np.array_equal(load_speech((pcm, 16_000)).samples, load_speech(tmp_path / "x.wav").samples)


def test_many_channels_become_stereo() -> None:
    levels = np.array([0.3, 0.2, 0.1, 0.1, 0.2, 0.1], np.float32)  # FL FR FC LFE BL BR
    wave = np.sin(np.arange(4000) / 3)
    speech = load_speech((wave[:, None] * levels, 16_000))
    assert speech.sound.shape == (2, 4000)
    low, surround = 0.1 * 1e-3, 0.5**0.5
    left, right = 0.3 + 0.1 + 0.2 * surround + low, 0.2 + 0.1 + 0.1 * surround + low
    assert np.abs(speech.sound - wave * np.array([[left], [right]])).max() < 1e-5
    assert np.abs(speech.samples - wave * (left + right) / 2).max() < 1e-5


def test_loud_sound_is_kept() -> None:
    loud = np.tile(np.array([1.7, -1.7], np.float32), 2000)
    assert np.array_equal(load_speech((loud, 16_000)).samples, loud)


# Files


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.aiff", "x.au", "x.w64"])
def test_files_by_soundfile(tmp_path: Path, name: str) -> None:
    samples = tone(1.3, 22_050, 2)
    soundfile.write(tmp_path / name, samples, 22_050)
    speech = load_speech(str(tmp_path / name))
    assert speech.sound.shape == (2, len(samples)) and speech.sound_sample_rate == 22_050
    assert speech.frames == 16
    assert np.abs(speech.sound.T - samples)[500:-500].max() < (0.05 if name == "x.ogg" else 1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "picture"),
    [("x.mp4", "aac", True), ("x.m4a", "aac", False), ("x.mkv", "pcm_f32le", True), ("x.mov", "alac", False)],
)
def test_files_by_pyav(tmp_path: Path, name: str, codec: str, picture: bool) -> None:
    samples = tone(1.3, 44_100)
    write_av(tmp_path / name, codec, samples, 44_100, picture)
    speech = load_speech(tmp_path / name)
    assert speech.sound_sample_rate == 44_100 and speech.sound.shape[0] == 1
    assert abs(speech.seconds - 1.3) < 0.06
    spectrum = np.abs(np.fft.rfft(speech.samples[2000:18_000] * np.hanning(16_000)))
    assert spectrum.argmax() == 440
    assert np.abs(speech.samples[2000:18_000]).max() == pytest.approx(0.5, abs=0.05)  # AAC is lossy


def test_names_that_mislead(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", tone(0.5, 16_000), 16_000)
    for name in ("x.mp4", "x.raw", "Füße 口.bin"):
        (tmp_path / name).write_bytes((tmp_path / "x.wav").read_bytes())
        assert load_speech(tmp_path / name).frames == 6


# Bad input


def refused(source: object, match: str, **options: float) -> None:
    with pytest.raises(SpeechError, match=match):
        load_speech(source, **options)


def test_bad_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "none.wav.*no such file")
    refused(tmp_path, "no such file")
    for name, content in {
        "empty.wav": b"",
        "text.txt": b"Hello, this is no sound.\n" * 100,
        "page.html": b"<!DOCTYPE html><html><body>404</body></html>",
        "noise.mp4": np.random.default_rng(0).bytes(5000),
        "head.wav": b"RIFF\xff\xff\xff\xffWAVEfmt ",
        "x.raw": b"\0" * 5000,
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, name)


def test_video_without_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(video.encode(image) + video.encode(None))
    refused(tmp_path / "x.mp4", "no audio stream")


@pytest.mark.parametrize("name", ["x.m3u8", "x.ffconcat", "x.sdp"])
def test_playlists_reach_no_other_file(tmp_path: Path, name: str) -> None:
    write_av(tmp_path / "other.mp3", "mp3", tone(2, 44_100), 44_100)
    playlists = {
        "x.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nother.mp3\n#EXT-X-ENDLIST\n",
        "x.ffconcat": "ffconcat version 1.0\nfile other.mp3\n",
        "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    }
    (tmp_path / name).write_text(playlists[name])
    refused(tmp_path / name, name)


@pytest.mark.parametrize("name", ["x.flac", "x.mp3", "x.ogg"])
def test_damage_in_the_middle(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).standard_normal(44_100 * 5).astype(np.float32) * 0.1
    if name == "x.mp3":
        write_av(tmp_path / name, "mp3", noise[:, None], 44_100)
    else:
        soundfile.write(tmp_path / name, noise, 44_100)
    whole = (tmp_path / name).read_bytes()
    assert load_speech(tmp_path / name).seconds == pytest.approx(5, abs=0.1)
    middle = len(whole) // 2
    garbage = np.random.default_rng(1).bytes(len(whole) // 10)
    (tmp_path / name).write_bytes(whole[:middle] + garbage + whole[middle + len(garbage) :])
    notices: list[str] = []
    speech = load_speech(tmp_path / name, hooks=Hooks(notice=notices.append))
    assert 4 < speech.seconds < 6
    assert any(re.search(r"(no sound at|damaged at) [23]\.\d\d", note) for note in notices), notices


def test_cut_video_file(tmp_path: Path) -> None:
    write_av(tmp_path / "x.mp4", "aac", tone(3, 44_100), 44_100)
    whole = (tmp_path / "x.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "x.mp4", "x.mp4")


def test_bad_arrays() -> None:
    good = np.full(4000, 0.1, np.float32)
    refused(("x.wav", 16_000), "not supported|none of")
    refused(good, "array, sample_rate")
    refused((np.zeros((2, 2, 800), np.float32), 16_000), "none of")
    refused((np.float32(1), 16_000), "none of")
    refused((np.zeros(0, np.float32), 16_000), "empty")
    refused((np.zeros((100, 100), np.float32), 16_000), "100 channels")
    refused((good.astype(complex), 16_000), "complex")
    refused((good.astype(np.int64), 16_000), "int64")
    refused((good > 0, 16_000), "bool")
    for rate in (7_999, 192_001, 0, -1, 16_000.5, math.nan, math.inf):
        refused((good, rate), "samples a second")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 32_767.0])
def test_values_that_are_no_sound(value: float) -> None:
    samples = np.full((200_000, 2), 0.1, np.float32)
    samples[160_000, 1] = value
    refused((samples, 16_000), rf"{value:g} at 10\.000 s")
    assert load_speech((samples, 16_000), duration=9.9).frames == 123
    assert load_speech((samples, 16_000), start=10.1).frames == 30


def test_nan_in_a_file(tmp_path: Path) -> None:
    samples = tone(1, 16_000)
    samples[8_000] = np.nan
    soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
    refused(tmp_path / "x.wav", r"nan at 0\.500 s")


def test_too_short_and_beyond_the_end() -> None:
    for rate in (8_000, 11_025, 16_000, 192_000):
        enough = math.floor(0.1 * rate)
        assert load_speech((np.full(enough, 0.1, np.float32), rate)).frames == 1
        refused((np.full(enough - 1, 0.1, np.float32), rate), "at least 0.1 s")
    second = np.full(16_000, 0.1, np.float32)
    refused((second, 16_000), "0.05 s of sound from 0.95 s on", start=0.95)
    refused((second, 16_000), "ends at 1 s; the start, 1 s", start=1.0)
    refused((second, 16_000), "the start, 99 s", start=99.0)
    for start in (-1.0, math.nan, math.inf):
        refused((second, 16_000), "start", start=start)
    for duration in (0.0, -1.0, 0.09, 3601.0, math.nan):
        refused((second, 16_000), "duration", duration=duration)


@pytest.mark.long
def test_longer_than_an_hour() -> None:
    def hours(seconds: int) -> Source:
        second = np.full((8_000, 1), 0.1, np.float32)
        return Source("long", 8_000, 1, (second for _ in range(seconds)))

    with pytest.raises(SpeechError, match="more than an hour"):
        _convert(hours(3601), 0.0, None, SILENT)
    assert _convert(hours(3601), 1.0, None, SILENT).seconds == 3600
    assert _convert(hours(100_000), 3600.0, 1.0, SILENT).seconds == 1


# Silence, cancelling, memory


def test_silence_is_noticed() -> None:
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    speech = load_speech((np.zeros(16_000, np.int16), 16_000), hooks=hooks)
    assert speech.frames == 12
    assert len(notices) == 1 and "silence" in notices[0]
    load_speech((np.tile(np.array([2, -2], np.int16), 8_000), 16_000), hooks=hooks)
    assert len(notices) == 1
    load_speech((np.full(16_000, 8_000, np.int16), 16_000), hooks=hooks)  # a constant is no sound
    assert len(notices) == 2 and "silence" in notices[1]


def test_cancelling() -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        load_speech((np.zeros(4_000_000, np.int16), 48_000), hooks=Hooks(cancelled=cancelled))
    assert len(asked) == 4


def test_cancelling_before_the_start() -> None:
    asked = []
    with pytest.raises(Cancelled):
        load_speech(
            (np.zeros(4_000_000, np.int16), 48_000),
            start=80.0,
            hooks=Hooks(cancelled=lambda: (asked.append(True), len(asked) > 3)[1]),
        )
    assert len(asked) == 4


@pytest.mark.parametrize("rate", [16_000, 192_000])
def test_memory_holds_little_more_than_the_result(tmp_path: Path, rate: int) -> None:
    with soundfile.SoundFile(tmp_path / "x.wav", "w", rate, 2, "PCM_16") as file:
        for _ in range(40):
            file.write(np.tile(np.array([[1000], [-1000]], np.int16), (rate // 2, 2)))
    tracemalloc.start()
    speech: Speech = load_speech(tmp_path / "x.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    result = speech.samples.nbytes + speech.sound.nbytes
    assert speech.seconds == 40
    assert peak < 1.3 * result + (8 << 20)
