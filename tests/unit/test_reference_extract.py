"""Emotions out of clips: the embedder's way, files of every kind, the command."""

import argparse
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from colour_faces import BY_COLOUR, PRIORS, MeanColour, embedder, happiness, quiet
from PIL import Image, features
from small_films import BrightSquare, film, listen, moving, number_of, pictures, sound, talking

from dicetalk.checkpoints.single import save_embedder
from dicetalk.cli.emotion_extract import add_extract
from dicetalk.cli.extract import extract
from dicetalk.emotion.files import load_emotion
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.reference.clip import open_reference, reference_of
from dicetalk.emotion.reference.embed import audio_states, embed_prior, embed_track
from dicetalk.emotion.reference.extract import Embedding, extract_emotion
from dicetalk.emotion.reference.face_track import watch
from dicetalk.errors import CheckpointError, EmotionError, SettingError, SpeechError, VideoError
from dicetalk.film import Span, measure

# Files


def red_film(path: Path, times: list[float], red: list[int], end: float) -> Path:
    """Pictures of a face at any times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for seconds, level in [*zip(times, red, strict=True), (end, red[-1])]:
            pixels = moving(1)[0]
            pixels[20:60, 10:50, 0] = level
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_times_count_not_frame_numbers(tmp_path: Path) -> None:
    times = [0, 0.02, 0.04, 0.06, 1.0, 2.0, *(2.0 + 0.01 * n for n in range(1, 30)), 3.5]
    path = red_film(tmp_path / "vfr.mp4", times, [250 if t >= 2 else 140 for t in times], 4.0)
    found = extract_emotion(path, BY_COLOUR, as_track=True, smoothing=0.0, detector=BrightSquare())
    assert happiness(found.emotion, 1.8) == pytest.approx(140 / 255, abs=0.03)
    assert happiness(found.emotion, 2.1) == pytest.approx(250 / 255, abs=0.03)
    assert found.emotion.end == pytest.approx(4.0, abs=0.13)
    whole = extract_emotion(path, BY_COLOUR, detector=BrightSquare()).emotion
    assert happiness(whole) == pytest.approx(195 / 255, abs=0.03) and whole.name == "vfr"
    assert whole.sigma.norm() == pytest.approx(
        55 / 255 * float((PRIORS["happy"].mu - PRIORS["neutral"].mu).norm()), rel=0.1
    )


def test_a_picture_is_one_frame(tmp_path: Path) -> None:
    Image.fromarray(moving(1)[0]).save(tmp_path / "me.png")
    reference = open_reference(tmp_path / "me.png")
    assert reference.frames == 1 and reference.speech is None
    found = extract_emotion(tmp_path / "me.png", BY_COLOUR, detector=BrightSquare())
    assert found.emotion.sigma is None and happiness(found.emotion) == pytest.approx(130 / 255, abs=1e-3)
    track = extract_emotion(tmp_path / "me.png", BY_COLOUR, as_track=True, detector=BrightSquare()).emotion
    assert track.is_constant and happiness(track) == pytest.approx(130 / 255, abs=1e-3)


def test_files_that_are_damaged_or_something_else(tmp_path: Path) -> None:
    whole = talking(tmp_path / "a.mp4").read_bytes()
    for name, content in (
        ("text.mp4", b"#EXTM3U\nfile:///etc/passwd\n"),
        ("empty.mp4", b""),
        ("half.mp4", whole[:900]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=name):
            extract_emotion(tmp_path / name, BY_COLOUR, detector=BrightSquare())
    with pytest.raises(VideoError, match="no such file"):
        extract_emotion(tmp_path / "none.mp4", BY_COLOUR)
    noise = bytearray(whole)
    for place in range(2000, len(noise) - 3000, 37):
        noise[place] ^= 0xFF
    (tmp_path / "noise.mp4").write_bytes(noise)
    try:
        outcome = watch(open_reference(tmp_path / "noise.mp4"), MeanColour(), BrightSquare(), quiet())
    except VideoError as error:
        outcome = error
    if isinstance(outcome, VideoError):
        assert "noise.mp4 is damaged" in str(outcome)
    else:  # another FFmpeg hides what is damaged
        assert len(outcome.values) == 15 and np.isfinite(outcome.values).all()


def test_a_video_that_was_cut_short_is_used_and_reported(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    with av.open(str(talking(tmp_path / "a.mp4", 4.0))) as read, av.open(str(whole), "w") as written:
        streams = {stream: written.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                written.mux(packet)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert open_reference(whole).problems == ()
    notices: list[str] = []
    found = extract_emotion(cut, BY_COLOUR, as_track=True, detector=BrightSquare(), hooks=quiet(notices))
    assert 1.5 < found.emotion.end < 3.5
    assert any("cut.mkv is cut short: its last 1." in text for text in notices), notices


def test_a_stream_that_is_left_out_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = talking(tmp_path / "a.mp4")

    def damaged(path: Path, kind: str) -> Span:
        if kind == "video":
            raise VideoError(f"{path}: its video stream is empty.")
        return measure(path, kind)

    monkeypatch.setattr("dicetalk.emotion.reference.clip.measure", damaged)
    notices: list[str] = []
    assert extract_emotion(path, Embedding(embedder(), MeanColour(), listen), hooks=quiet(notices)).heard
    assert notices == [f"{path}: its video stream is empty."]
    with pytest.raises(VideoError, match=r"no pictures.*its video stream is empty"):
        extract_emotion(path, BY_COLOUR, detector=BrightSquare(), hooks=quiet())
    monkeypatch.undo()
    assert open_reference(path).problems == open_reference(film(tmp_path / "b.mp4", pictures(9))).problems == ()


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_what_a_phone_stores_sideways_is_turned_upright(clockwise: int, tmp_path: Path) -> None:
    upright = np.full((96, 64, 3), 40, np.uint8)
    upright[:30, :30] = 250, 60, 20  # in the left upper corner
    stored = torch.from_numpy(np.rot90(upright, clockwise // 90).copy()).permute(2, 0, 1)[None] / 255
    content = bytearray(film(tmp_path / "a.mp4", stored.expand(5, -1, -1, -1)).read_bytes())
    # The track header's matrix, which players turn by (ISO/IEC 14496-12, 8.3.2); it rotates clockwise.
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, *matrix)
    (tmp_path / "a.mp4").write_bytes(content)
    picture = next(open_reference(tmp_path / "a.mp4").pictures())
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).mean() < 12


def test_an_animated_avif_lasts_as_long_as_its_pictures_say(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    shades = [Image.new("RGB", (96, 80), (shade, 90, 60)) for shade in (40, 80, 120, 160)]
    shades[0].save(tmp_path / "a.avif", save_all=True, append_images=shades[1:], duration=160, quality=90)
    reference = open_reference(tmp_path / "a.avif")
    assert [round(picture[..., 0].mean() / 40) for picture in reference.pictures()] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert reference.frames == 8 and not reference.problems


def test_an_animated_picture_is_a_film(tmp_path: Path) -> None:
    shown = [moving(1)[0], moving(60)[59], moving(1, range(1))[0]]
    frames = [Image.fromarray(picture) for picture in shown]
    for name in ("a.webp", "a.gif"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], duration=[400, 800, 160], lossless=True
        )
        reference = open_reference(tmp_path / name)
        assert reference.frames == 17 and reference.speech is None
        far = [np.abs(np.stack(shown) - picture.astype(int)).mean(axis=(1, 2, 3)) for picture in reference.pictures()]
        # FFmpeg does not know how long a GIF's last picture is shown.
        assert np.argmin(far, axis=1).tolist() in ([0] * 5 + [1] * 10 + [2] * 2, [0] * 5 + [1] * 10 + [2]), name
    content = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "cut.webp").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(VideoError, match=r"cut\.webp"):
        extract_emotion(tmp_path / "cut.webp", BY_COLOUR, detector=BrightSquare())


def test_a_still_picture_looks_the_same_all_the_time_that_somebody_speaks(tmp_path: Path) -> None:
    way = Embedding(embedder(), MeanColour(), listen)
    samples = np.random.default_rng(0).normal(0, 0.1, 2 * 16000).astype(np.float32)
    both = reference_of(moving(1), sound=(samples, 16000))
    many = reference_of(moving(1).repeat(25, axis=0), 12.5, (samples, 16000))
    assert both.frames == 1 and len(both.speech()) == len(samples)
    expected = extract_emotion(many, way, detector=BrightSquare()).emotion
    found = extract_emotion(both, way, detector=BrightSquare()).emotion
    assert torch.allclose(found.mu, expected.mu, atol=1e-5)
    track = extract_emotion(both, way, as_track=True, smoothing=0.0, detector=BrightSquare()).emotion
    assert track.end == pytest.approx(24 / 12.5)
    one = film(tmp_path / "one.mp4", pictures(2), with_sound=sound(2.0))
    assert open_reference(one).frames == 1 and len(open_reference(one).speech()) == pytest.approx(32000, abs=1280)


def test_references_in_memory() -> None:
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 64, 64, 3), np.uint8)
    shown = [int(picture[0, 0, 0]) for picture in reference_of(frames, 5.0).pictures()]
    assert shown == [int(i / 12.5 * 5 + 1e-6) for i in range(25)]
    assert [p[0, 0, 0] for p in reference_of(frames, 25.0).pictures()] == [0, 2, 4, 6, 8]
    voice = reference_of(sound=sound(1.0))
    assert voice.frames == 12 and len(voice.speech()) == 12 * 1280
    with pytest.raises(VideoError, match="neither"):
        reference_of()
    with pytest.raises(VideoError, match="float64"):
        reference_of(np.zeros((1, 64, 64, 3)))
    with pytest.raises(VideoError, match="0 frames a second"):
        reference_of(frames, 0)
    with pytest.raises(SpeechError):
        reference_of(frames, sound=(np.zeros((2, 3, 4, 5)), 16000))


# The embedder


def clip_tensors(frames: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, 3, generator=generator), torch.randn(4 * frames, 6, generator=generator)


@pytest.mark.parametrize("left_out", [None, "visual", "audio"])
def test_a_short_clip_is_embedded_whole(left_out: str | None) -> None:
    network = embedder()
    visual, audio = clip_tensors(70)
    visual, audio = None if left_out == "visual" else visual, None if left_out == "audio" else audio
    expected = network(None if visual is None else visual[None], None if audio is None else audio[None])
    found = embed_prior(network, visual, audio, "clip")
    assert torch.allclose(found.mu, expected.mu[0], atol=1e-5)
    assert torch.allclose(found.sigma, expected.sigma[0], atol=1e-5)


def test_a_long_clip_is_the_mixture_of_its_parts() -> None:
    network = embedder()
    visual, audio = clip_tensors(151)
    visual[:50] += 3
    parts = [network(visual[None, a:b], audio[None, 4 * a : 4 * b]) for a, b in ((0, 50), (50, 101), (101, 151))]
    weights = torch.tensor([50, 51, 50])[:, None] / 151
    mus, sigmas = (torch.cat([getattr(part, name) for part in parts]) for name in ("mu", "sigma"))
    found = embed_prior(network, visual, audio, "clip")
    mean = (weights * mus).sum(0)
    assert torch.allclose(found.mu, mean, atol=1e-5)
    second = (weights * (sigmas.square() + mus.square())).sum(0)
    assert torch.allclose(found.sigma.square(), second - mean.square(), atol=1e-4)
    assert (found.sigma > sigmas.amin(0)).all()


def test_a_track_has_the_prior_of_the_window_around_each_moment() -> None:
    network = embedder()
    visual, audio = clip_tensors(60)
    track = embed_track(network, visual, audio, "clip", window_seconds=1.6)
    assert len(track.keyframes) == 30 and track.end == pytest.approx(58 / 12.5)
    for middle, start in ((0, 0), (6, 0), (20, 10), (40, 30), (56, 40), (58, 40)):
        expected = network(visual[None, start : start + 20], audio[None, 4 * start : 4 * start + 80])
        moment = track.at([middle / 12.5])
        assert torch.allclose(moment.mu, expected.mu, atol=1e-5) and torch.allclose(
            moment.sigma, expected.sigma, atol=1e-4
        )
    short = embed_track(network, visual[:5], None, "clip")
    assert torch.allclose(short.at([0.2]).mu, network(visual[None, :5]).mu, atol=1e-5)
    with pytest.raises(EmotionError, match=r"window is 0\.1 s"):
        embed_track(network, visual, audio, "clip", window_seconds=0.1)
    for seconds in (0.4, 30.0, float("nan")):
        with pytest.raises(EmotionError, match=r"expected 0\.5 to 6 s"):
            Embedding(network, window_seconds=seconds)


def test_a_change_is_where_it_was() -> None:
    network = embedder()
    visual = torch.zeros(100, 3)
    visual[50:] = 2.0
    track = embed_track(network, visual, None, "clip", smoothing=0.1)
    mus = track.at(np.arange(100) / 12.5).mu
    ends = mus[10], mus[90]
    nearer_end = (mus - ends[1]).norm(dim=1) < (mus - ends[0]).norm(dim=1)
    assert abs(int(nearer_end.float().argmax()) - 50) <= 4 and nearer_end[60:].all()


def test_sizes_that_the_embedder_does_not_know() -> None:
    with pytest.raises(EmotionError, match="2 expression coefficients; the embedder was trained on 3"):
        embed_prior(embedder(), torch.zeros(9, 2), None, "clip")
    with pytest.raises(EmotionError, match="9 Whisper numbers"):
        embed_track(embedder(), None, torch.zeros(9, 9), "clip")
    with pytest.raises(EmotionError, match="neither"):
        embed_prior(embedder(), None, None, "clip")
    with pytest.raises(EmotionError, match="shorter than one frame"):
        embed_prior(embedder(), None, torch.zeros(3, 6), "clip")


@pytest.mark.parametrize("modality", ["video", "audio", "both", "auto"])
@pytest.mark.parametrize("as_track", [False, True])
def test_the_embedder_sees_and_hears_a_film(modality: str, as_track: bool, tmp_path: Path) -> None:
    path = talking(tmp_path / "a.mp4", 2.0)
    network = embedder()
    way = Embedding(network, MeanColour(), listen, modality)
    found = extract_emotion(path, way, as_track=as_track, smoothing=0.0, detector=BrightSquare(), hooks=quiet())
    reference = open_reference(path)
    visual = torch.from_numpy(watch(reference, MeanColour(), BrightSquare()).values) if modality != "audio" else None
    audio = audio_states(listen(reference.speech())) if modality != "video" else None
    assert (found.seen, found.heard) == (visual is not None, audio is not None)
    if as_track:
        expected = embed_track(network, visual, audio, "a")
        assert torch.allclose(found.emotion.at([0, 1.0]).mu, expected.at([0, 1.0]).mu, atol=1e-5)
    else:
        assert torch.allclose(found.emotion.mu, embed_prior(network, visual, audio, "a").mu, atol=1e-5)
        assert found.emotion.name == "a"


def test_what_a_clip_or_a_model_lacks(tmp_path: Path) -> None:
    silent = film(tmp_path / "silent.mp4", pictures(30))
    way = Embedding(embedder(), MeanColour(), listen)
    found = extract_emotion(silent, way, detector=BrightSquare())
    assert found.seen and not found.heard
    for modality in ("audio", "both"):
        with pytest.raises(EmotionError, match=r"silent\.mp4 has no sound"):
            extract_emotion(silent, Embedding(embedder(), MeanColour(), listen, modality), detector=BrightSquare())
    voice = reference_of(sound=sound(1.0))
    assert extract_emotion(voice, way).heard
    with pytest.raises(EmotionError, match="no pictures"):
        extract_emotion(voice, Embedding(embedder(), MeanColour(), listen, "video"))
    with pytest.raises(EmotionError, match="no reader of expressions"):
        extract_emotion(silent, Embedding(embedder(), None, listen, "video"))
    with pytest.raises(EmotionError, match="neither a face nor a voice"):
        extract_emotion(silent, Embedding(embedder(), None, listen))
    with pytest.raises(EmotionError, match="smell"):
        extract_emotion(silent, Embedding(embedder(), None, listen, "smell"))
    with pytest.raises(VideoError, match="no pictures"):
        extract_emotion(voice, BY_COLOUR)


def test_sound_that_begins_with_the_pictures(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", pictures(50), with_sound=sound(2.0, clicks=[1.0]))
    reference = open_reference(path)
    samples = reference.speech()
    assert reference.frames == 25 and len(samples) == pytest.approx(25 * 1280, abs=1280)
    assert int(np.abs(samples).argmax()) == pytest.approx(16000, abs=400)
    assert [number_of(p) for p in reference.pictures()][:3] == [0, 2, 4]


# The command


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "emotion").mkdir(parents=True)
    for name, prior in PRIORS.items():
        np.save(folder / "emotion" / f"{name}.npy", prior.mu.numpy())
    return folder


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_extract(parser.add_subparsers())
    options = parser.parse_args(["extract", *map(str, words), "--quiet"])
    assert options.command == ("extract", "extract")
    return extract(options)


@pytest.fixture
def square_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicetalk.emotion.reference.extract.CenterFace", BrightSquare)
    monkeypatch.setattr("dicetalk.portrait.detector.CenterFace", BrightSquare)


def test_the_command_saves_what_it_found(
    models: Path, tmp_path: Path, square_detector: None, capsys: pytest.CaptureFixture
) -> None:
    clip, out = talking(tmp_path / "a.mp4"), tmp_path / "o.safetensors"
    assert run(clip, "--out", out, "--models", models, "--licence", "mine", "--device", "cpu") == 0
    assert "%" in capsys.readouterr().out
    saved = load_emotion(out, None)
    assert isinstance(saved.emotion, EmotionPrior) and (saved.source, saved.licence) == ("a.mp4", "mine")
    assert run(clip, "--out", out, "--models", models, "--track", "--strength", 0, "--device", "cpu") == 0
    track = load_emotion(out, None).emotion
    assert torch.allclose(track.at([0.3]).mu[0], PRIORS["neutral"].mu, atol=1e-5)


def test_the_command_finds_faces_as_the_node_does(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "yoloface_v5m.pt").write_bytes(b"released")
    asked = []
    monkeypatch.setattr("dicetalk.portrait.detector.YoloFace", lambda path, _: (asked.append(path), BrightSquare())[1])
    clip, out = talking(tmp_path / "a.mp4"), tmp_path / "o.safetensors"
    assert run(clip, "--out", out, "--models", models, "--device", "cpu") == 0
    assert asked == [models / "yoloface_v5m.pt"]


def test_the_command_by_the_embedder(models: Path, tmp_path: Path, square_detector: None) -> None:
    clip, out = talking(tmp_path / "a.mp4"), tmp_path / "o.safetensors"
    with pytest.raises(CheckpointError, match=r"holds no embedder\.safetensors"):
        run(clip, "--out", out, "--models", models, "--by", "embedder")
    save_embedder(embedder(), models / "embedder.safetensors")
    with pytest.raises(SettingError, match="--landmarker"):
        run(clip, "--out", out, "--models", models, "--modality", "video", "--device", "cpu")
    with pytest.raises(CheckpointError, match="Whisper"):
        run(clip, "--out", out, "--models", models, "--modality", "audio", "--device", "cpu")
    with pytest.raises(SettingError, match="--strength has no influence by embedder"):
        run(clip, "--out", out, "--models", models, "--strength", 2)
    with pytest.raises(SettingError, match="--window has no influence by recogniser"):
        run(clip, "--out", out, "--models", models, "--by", "recogniser", "--track", "--window", 3)
    for option in ("--window", "--smoothing"):
        with pytest.raises(SettingError, match=f"{option} has no influence on one emotion"):
            run(clip, "--out", out, "--models", models, option, 3)
    with pytest.raises(SettingError, match="--modality has no influence by recogniser"):
        run(clip, "--out", out, "--models", models, "--by", "recogniser", "--modality", "audio")
    (models / "emotion" / "sad.npy").unlink()
    with pytest.raises(CheckpointError, match=r"sad\.npy"):
        run(clip, "--out", out, "--models", models)
