"""Recordings as people make them: channels, streams, gaps, torn files, offsets; written by FFmpeg's own encoders."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from dicetalk.audio.downmix import Downmix
from dicetalk.audio.speech import Speech, load_speech
from dicetalk.emotion.reference.clip import open_reference
from dicetalk.errors import DiceTalkError, SpeechError, VideoError
from dicetalk.hooks import Hooks

RATE = 16_000


def voice(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Syllables of a harmonic tone with pauses, peak about 0.5, ``(n,)``."""
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(3 * t)) / RATE
    tone = sum(np.sin(n * pitch + seed) / n for n in range(1, 12))
    loud = np.clip(np.sin(2 * np.pi * 2.3 * t), 0, None) ** 0.5
    hiss = np.random.default_rng(seed).normal(0, 0.002, len(t))
    return (0.25 * tone * loud + hiss).astype(np.float32)


def read(source: object, **options: object) -> tuple[Speech, list[str]]:
    notices: list[str] = []
    return load_speech(source, hooks=Hooks(notice=notices.append), **options), notices


def decibels(samples: np.ndarray) -> float:
    return 10 * np.log10(float(np.square(samples, dtype=np.float64).mean()) + 1e-20)


def encode(
    path: Path,
    tracks: list[list[tuple[float, np.ndarray]]],
    codec: str = "aac",
    picture: tuple[float, float] | None = None,
    layout: str = "mono",
    rate: int = RATE,
    **options: str,
) -> Path:
    """Write sound tracks, each of pieces ``(n, channels)`` with the time of their first sample, beside a video.

    Args:
        picture: when pictures begin and end.
    """
    with av.open(str(path), "w", options=options) as container:
        packets = []
        if picture is not None:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            video.codec_context.time_base = Fraction(1, 25)
        streams = [container.add_stream(codec, rate=rate) for _ in tracks]
        for stream in streams:
            stream.layout = layout
        if picture is not None:
            for number in range(round(picture[0] * 25), round(picture[1] * 25)):
                image = np.full((64, 64, 3), number % 250, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += video.encode(frame)
            packets += video.encode(None)
        for stream, pieces in zip(streams, tracks, strict=True):
            for begin, samples in pieces:
                step = stream.codec_context.frame_size or 1024
                for start in range(0, len(samples) - step + 1, step):
                    planes = np.ascontiguousarray(samples[start : start + step].reshape(step, -1).T, np.float32)
                    if codec == "pcm_s16le":
                        block = (planes.T * 32767).astype(np.int16).reshape(1, -1)
                        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
                    elif len(planes) >= 8:  # PyAV cannot write so many planes either
                        block = np.ascontiguousarray(planes.T).reshape(1, -1)
                        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
                        frame.sample_rate = rate
                        (frame,) = av.AudioResampler("fltp", layout, rate).resample(frame)
                    else:
                        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
                    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                    frame.pts = round(begin * rate) + start
                    packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            container.mux(packet)
    return path


# Channels


def stereo_cases() -> dict[str, np.ndarray]:
    one = voice()
    other = voice(seed=7)
    flips = np.where(np.arange(len(one)) // (RATE // 2) % 2, -1, 1)
    return {
        "inverted": np.stack([one, -one], 1),
        "partly": np.stack([one, -0.5 * one], 1),
        "inverted with an offset": np.stack([one, -one], 1) + 0.2,
        "inverted with noise": np.stack([one, -one + 0.003 * np.random.default_rng(3).normal(size=len(one))], 1),
        "some of the time": np.stack([one, flips * one], 1),
        "right alone": np.stack([0 * one, one], 1),
        "left alone": np.stack([one, 0 * one], 1),
        "quad, backs inverted": np.stack([0 * one, 0 * one, one, -one], 1),
        "5.1, fronts inverted": np.stack([one, -one, 0 * one, 0 * one, 0 * one, 0 * one], 1),
        "5.1, centre": np.stack([0 * one, 0 * one, one, 0 * one, 0 * one, 0 * one], 1),
        "5.1, low-frequency channel": np.stack([0 * one, 0 * one, 0 * one, one, 0 * one, 0 * one], 1),
        "5.1, centre against the fronts": np.stack([-one, -one, one, 0 * one, 0 * one, 0 * one], 1),
        "7.1, centre under music": np.stack([0.01 * other, 0.01 * other, one, *[0 * one] * 5], 1),
        "7.1, side left": np.stack([*[0 * one] * 6, one, 0 * one], 1),
        "3": np.stack([0 * one, 0 * one, one], 1),
        "12 of unknown places": np.stack([*[0 * one] * 5, one, *[0 * one] * 6], 1),
    }


@pytest.mark.parametrize("name", stereo_cases())
def test_the_network_hears_the_voice_as_loud_as_in_one_channel(name: str, tmp_path: Path) -> None:
    channels = stereo_cases()[name].astype(np.float32)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    for source in ((channels, RATE), (channels.T[None], RATE), tmp_path / "a.wav"):
        speech, _ = read(source)
        assert abs(decibels(speech.samples) - decibels(voice())) < 1, name
        alike = np.corrcoef(np.abs(speech.samples), np.abs(voice()))[0, 1]
        assert alike > 0.98, name


@pytest.mark.parametrize(("name", "layout"), [("a.m4a", "7.1"), ("a.m4a", "octagonal"), ("a.mka", "hexadecagonal")])
def test_eight_channels_and_more_each_in_a_plane_of_its_own(name: str, layout: str, tmp_path: Path) -> None:
    """PyAV's own way to their samples ends the process."""
    one = voice()
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    planes = np.stack([one if channel == "FC" else 0 * one for channel in channels], 1)
    path = encode(tmp_path / name, [[(0.0, planes)]], layout=layout)
    speech, _ = read(path)
    assert decibels(speech.samples) == pytest.approx(decibels(one), abs=0.5)
    assert decibels(open_reference(path).speech()) == pytest.approx(decibels(one), abs=0.5)


def test_ordinary_stereo_is_averaged_exactly() -> None:
    one, other = voice(), voice(seed=7)
    for second in (one, 0.3 * one, other, 0.7 * one + 0.3 * other):
        channels = np.stack([one, second], 1)
        assert np.array_equal(load_speech((channels, RATE)).samples, channels.mean(axis=1))


def mixed(channels: np.ndarray, layout: tuple[str, ...] | None = None) -> np.ndarray:
    """What the network hears of channels ``(n, k)`` that come in blocks, ``(n,)``."""
    downmix = Downmix(channels.shape[1], RATE, layout)
    blocks = np.array_split(channels.astype(np.float32), 40)
    heard = np.concatenate([downmix.mono(block, last=block is blocks[-1]) for block in blocks])
    return heard[:, 0] * downmix.mono_gain


def hiss(seed: int, level: float = 0.001) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, 3 * RATE)


@pytest.mark.parametrize("milliseconds", [0, 0.25, 0.5, 1, 1.5, 1.9])
def test_an_inverted_channel_a_little_later_takes_nothing_away(milliseconds: float) -> None:
    sound = voice()
    later = np.roll(sound, round(milliseconds * RATE / 1000))
    heard = mixed(np.stack([sound, -later], 1))
    assert abs(decibels(heard) - decibels(sound)) < 1
    assert np.abs(np.diff(heard)).max() < 1.1 * np.abs(np.diff(sound)).max()  # no clicks


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("level", [0, 0.001, 0.003])
def test_one_channel_of_a_quad_file_keeps_its_level_over_the_hiss_of_others(place: int, level: float) -> None:
    sound = voice()
    channels = np.stack([hiss(seed, level) for seed in range(4)], 1)
    channels[:, place] = sound
    heard = mixed(channels, ("FL", "FR", "BL", "BR"))
    assert abs(decibels(heard) - decibels(sound)) < 1
    # No clicks; the hiss comes up with the voice.
    assert np.abs(np.diff(heard)).max() < 1.1 * np.abs(np.diff(sound)).max() + 20 * level


def test_two_voices_on_two_channels_are_averaged() -> None:
    channels = np.stack([voice(), np.roll(voice(seed=5), RATE // 3)], 1)
    averaged = np.isclose(mixed(channels), channels.mean(axis=1), atol=1e-4)
    assert averaged.mean() > 0.95  # but for moments in which two tones happen to cancel


def test_the_centre_of_a_film_keeps_its_level_in_the_video(tmp_path: Path) -> None:
    one = voice()
    surround = np.stack([0 * one, 0 * one, one, 0 * one, 0 * one, 0 * one], 1)
    for layout, path in (("5.1", tmp_path / "a.mka"), ("5.1(side)", tmp_path / "b.mka")):
        encode(path, [[(0.0, surround.repeat(3, axis=0))]], "ac3", layout=layout, rate=48_000)
        speech, _ = read(path)
        reference = decibels(one)
        assert np.abs([decibels(channel) - reference for channel in speech.sound]).max() < 1, layout
        assert abs(decibels(speech.samples) - reference) < 1
    loud = np.stack([one] * 6, 1) * 2
    speech, notices = read((loud, RATE))
    assert np.abs(speech.sound).max() == pytest.approx(1) and any("exceed full scale" in note for note in notices)


# Streams


def test_a_silent_first_stream_is_passed_over(tmp_path: Path) -> None:
    one = voice()
    path = encode(tmp_path / "a.mp4", [[(0.0, 0 * one)], [(0.0, one)]], picture=(0, 3))
    speech, notices = read(path)
    assert abs(decibels(speech.samples) - decibels(one)) < 1
    assert len(notices) == 1 and "2 sound streams: 2 is used" in notices[0] and "1 (silent)" in notices[0]
    chosen, notices = read(path, stream=1)
    assert decibels(chosen.samples) < -80 and "silence" in notices[0]
    assert abs(decibels(read(path, stream=2)[0].samples) - decibels(one)) < 1
    with pytest.raises(SpeechError, match="no sound stream 3; it has 2"):
        load_speech(path, stream=3)
    with pytest.raises(SpeechError, match="stream is 0"):
        load_speech(path, stream=0)
    reference = open_reference(path)
    assert abs(decibels(reference.speech()) - decibels(one)) < 1
    assert "2 is used" in reference.problems[0]
    assert decibels(open_reference(path, stream=1).speech()) < -80


def test_two_streams_that_are_heard(tmp_path: Path) -> None:
    one, other = voice(), 0.5 * voice(seed=7)
    path = encode(tmp_path / "a.mkv", [[(0.0, one)], [(0.0, other)]], "pcm_s16le")
    speech, notices = read(path)
    assert abs(decibels(speech.samples) - decibels(one)) < 0.5 and "1 is used" in notices[0]


# Time


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.mkv", "aac"), ("a.mp4", "aac")])
def test_a_gap_is_silence(name: str, codec: str, tmp_path: Path) -> None:
    one = voice(1.024)
    path = encode(tmp_path / name, [[(0.0, one), (3.0, one)]], codec, picture=(0, 5))
    speech, notices = read(path)
    assert speech.seconds == pytest.approx(4.02, abs=0.1)
    assert not speech.samples[round(1.2 * RATE) : round(2.9 * RATE)].any()
    assert decibels(speech.samples[round(3.1 * RATE) : round(3.9 * RATE)]) > -25
    assert len(notices) == 1 and "no sound at 1.0" in notices[0] and "to 3.00 s" in notices[0]
    notices.clear()
    reference = open_reference(path, hooks=Hooks(notice=notices.append))
    heard = reference.speech()
    reference.speech()
    assert not heard[round(1.2 * RATE) : round(2.9 * RATE)].any() and heard[round(3.1 * RATE) :].any()
    assert sum("no sound at" in note for note in notices) == 1


def test_sound_that_begins_late_or_early(tmp_path: Path) -> None:
    one = voice(1.024)
    late = encode(tmp_path / "late.mkv", [[(2.0, one)]], "pcm_s16le", picture=(0, 4))
    speech, notices = read(late)
    assert not speech.samples[: 2 * RATE - 400].any() and speech.seconds == pytest.approx(3.0, abs=0.05)
    assert "no sound at 0.00 to 2.00 s" in notices[0]
    heard = open_reference(late)
    assert not heard.speech()[: 2 * RATE - 400].any()
    assert any("begins 2.00 s after" in note for note in heard.problems)
    early = encode(tmp_path / "early.mkv", [[(0.0, voice(3.072))]], "pcm_s16le", picture=(1, 3))
    speech, notices = read(early)
    assert speech.seconds == pytest.approx(3.072, abs=0.05) and not notices
    reference = open_reference(early)
    assert np.abs(reference.speech()[: RATE // 2] - voice(3.072)[RATE : RATE * 3 // 2]).max() < 0.01
    assert any("begins 1.00 s before" in note for note in reference.problems)
    alone = encode(tmp_path / "alone.mkv", [[(2.0, one)]], "pcm_s16le")
    assert read(alone)[0].seconds == pytest.approx(1.02, abs=0.05)


def test_overlapping_and_repeated_times(tmp_path: Path) -> None:
    one = voice(2.048)
    over = encode(tmp_path / "over.mkv", [[(0.0, one), (1.748, one)]], "pcm_s16le")
    speech, notices = read(over)
    assert speech.seconds == pytest.approx(1.748 + 2.048, abs=0.05)
    assert "comes twice" in notices[0]


# Torn files


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.ogg", "libvorbis"), ("a.opus", "libopus"),
        ("a.mp3", "libmp3lame"), ("a.mka", "aac"), ("a.m4a", "aac"), ("a.aiff", "pcm_s16be"),
    ],
)  # fmt: skip
def test_what_is_there_of_a_torn_file_is_read(name: str, codec: str, tmp_path: Path) -> None:
    options = {"movflags": "+faststart"} if name == "a.m4a" else {}
    if codec in ("aac", "libopus", "libmp3lame"):
        long = np.tile(voice(2.0), 5)
        if codec == "libopus":
            soundfile.write(tmp_path / name, long, RATE, format="OGG", subtype="OPUS")
        elif codec == "libmp3lame":
            soundfile.write(tmp_path / name, long, RATE, format="MP3")
        else:
            encode(tmp_path / name, [[(0.0, long)]], codec, **options)
    else:
        long = np.tile(voice(2.0), 5)
        soundfile.write(tmp_path / name, long, RATE)
    whole, notices = read(tmp_path / name)
    assert whole.seconds == pytest.approx(10, abs=0.15) and not notices, notices
    content = (tmp_path / name).read_bytes()
    (tmp_path / f"cut-{name}").write_bytes(content[: len(content) * 6 // 10])
    speech, notices = read(tmp_path / f"cut-{name}")
    assert 4 < speech.seconds < 8
    assert len(notices) == 1 and ("cut short" in notices[0]), notices


def test_a_torn_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", [[(0.0, voice(2.0))]])
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match=r"without its index \(moov\).*Copy or download it again"):
        open_reference(tmp_path / "a.mp4")
    with pytest.raises(SpeechError, match=r"without its index \(moov\).*Copy or download it again"):
        load_speech(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, "header says 0.00 s"), (0xFFFFFFFF, "does not say"), (RATE, "header says 0.50 s"), (RATE * 20, "cut short")],
)
def test_wav_headers_that_are_wrong(length: int, expected: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(3.0), RATE, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", content, content.index(b"data") + 4, length)
    (tmp_path / "a.wav").write_bytes(content)
    speech, notices = read(tmp_path / "a.wav")
    assert speech.seconds == pytest.approx(3.0, abs=0.01)
    assert np.abs(speech.samples - voice(3.0)).max() < 1e-3
    assert len(notices) == 1 and expected in notices[0], notices


@pytest.mark.parametrize("length", [0, RATE, 1 << 31, (1 << 63) - 1])
@pytest.mark.parametrize("kind", ["RF64", "W64"])
def test_lengths_in_headers_are_believed_by_neither_speech_nor_references(
    kind: str, length: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(3.0), RATE, "PCM_16", format=kind)
    content = bytearray(path.read_bytes())
    place = content.index(b"ds64") + 16 if kind == "RF64" else content.index(b"data\xf3\xac\xd3\x11") + 16
    struct.pack_into("<Q", content, place, length)
    path.write_bytes(content)
    assert read(path)[0].seconds == pytest.approx(3.0, abs=0.01)
    assert len(open_reference(path).speech()) / RATE == pytest.approx(3.0, abs=0.09)


def test_a_clock_that_begins_late_is_no_missing_beginning(tmp_path: Path) -> None:
    """Players' recordings begin at the time of day, and Matroska's length counts from zero."""
    path = encode(tmp_path / "a.mkv", [[(100.0, voice()[:, None])]], picture=(100.0, 103.0))
    speech, notices = read(path)
    assert speech.seconds == pytest.approx(3.0, abs=0.1) and not notices
    assert not open_reference(path).problems


def test_chunks_behind_the_sound_of_a_wav_are_no_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0), RATE, subtype="PCM_16")
    with (tmp_path / "a.wav").open("ab") as file:
        file.write(struct.pack("<4sI4s", b"LIST", 4, b"INFO") + struct.pack("<4sI", b"id3 ", 9) + bytes(10))
    speech, notices = read(tmp_path / "a.wav")
    assert speech.seconds == 1.0 and not notices


def seen(path: Path) -> None:
    reference = open_reference(path)
    for picture in reference.pictures() if reference.pictures else ():
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.flv", "a.mkv", "a.mp4", "a.ogg", "a.wav", "a.avi", "a.mp3"])
def test_damaged_files_end_in_an_error_of_the_library(name: str, tmp_path: Path) -> None:
    codec = {"a.ogg": "flac", "a.wav": "pcm_s16le", "a.mp3": "mp3", "a.avi": "mp3"}.get(name, "aac")
    picture = (0, 1) if name in ("a.mkv", "a.mp4", "a.avi") else None
    if codec in ("flac",):
        soundfile.write(tmp_path / name, voice(1.0), RATE)
    elif codec == "mp3":
        soundfile.write(tmp_path / "b.mp3", voice(1.0), RATE)
        with av.open(str(tmp_path / "b.mp3")) as mp3, av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream_from_template(mp3.streams.audio[0])
            for packet in mp3.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
    else:
        encode(tmp_path / name, [[(0.0, voice(1.0))]], codec, picture=picture)
    content = (tmp_path / name).read_bytes()
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        broken = bytearray(content)
        for place in generator.integers(0, min(len(broken), 3000), generator.integers(1, 8)):
            broken[place] = generator.integers(256)
        (tmp_path / name).write_bytes(broken)
        for way in (lambda: read(tmp_path / name), lambda: seen(tmp_path / name)):
            try:
                way()
                outcomes.add("read")
            except DiceTalkError:
                outcomes.add("refused")
    assert "read" in outcomes or name == "a.ogg"  # every page of it has a checksum


# What a listener hears


def test_an_offset_is_removed() -> None:
    one = voice(3.0)
    for offset in (0.3, -0.1, np.linspace(-0.4, 0.4, len(one))):
        speech, notices = read(((one + offset).astype(np.float32), RATE))
        assert np.abs(speech.samples - one).max() < 0.03
        assert len(notices) == 1 and "offset" in notices[0]
    speech, notices = read((one, RATE))
    assert np.array_equal(speech.samples, one) and not notices
    speech, notices = read((one + np.float32(0.004), RATE))  # what cheap converters leave: untouched
    assert np.array_equal(speech.samples, one + np.float32(0.004)) and not notices


def test_very_quiet_speech_is_heard() -> None:
    one = voice(3.0)
    speech, notices = read((one * 1e-3, RATE))
    assert -32 < decibels(speech.samples) < -20
    assert np.corrcoef(speech.samples, one)[0, 1] > 0.999 and "very quiet" in notices[0]
    assert decibels(speech.sound) == pytest.approx(decibels(one) - 60, abs=0.1)
    noise = np.random.default_rng(0).normal(0, 1e-3, 3 * RATE).astype(np.float32)
    speech, notices = read((noise, RATE))
    assert np.array_equal(speech.samples, noise) and not notices
    speech, notices = read((one * 0.05, RATE))
    assert np.array_equal(speech.samples, one * np.float32(0.05)) and not notices


def test_very_quiet_speech_under_rumble_is_heard() -> None:
    one, time = voice(3.0) * np.float32(1e-3), np.arange(3 * RATE) / RATE
    rumble = (0.02 * np.sin(2 * np.pi * 22 * time)).astype(np.float32)
    speech, notices = read((one + rumble, RATE))
    assert -32 < decibels(speech.samples) < -20 and np.corrcoef(speech.samples, one)[0, 1] > 0.99
    assert len(notices) == 1 and "very quiet" in notices[0] and "without the rumble" in notices[0]
    loud = (voice(3.0) + rumble).astype(np.float32)
    speech, notices = read((loud, RATE))
    assert np.array_equal(speech.samples, loud) and not notices
