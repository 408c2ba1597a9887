"""Emotions out of clips: watching a face, the embedder's way, files of every kind, the command."""

import argparse
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from small_films import BrightSquare, film, listen, number_of, pictures, sound, talking

from dicetalk.cli.emotion_extract import add_extract
from dicetalk.cli.extract import extract
from dicetalk.emotion.embed import audio_states, embed_prior, embed_track
from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder
from dicetalk.emotion.embedder_file import save_embedder
from dicetalk.emotion.extract import Embedding, Recognition, extract_emotion
from dicetalk.emotion.face_crop import FaceCrop
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.emotion.reference import Reference, open_reference, reference_of
from dicetalk.emotion.saved import load_emotion
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.watch import BRIDGE_LOOKS, LOOK_EVERY, follow, watch
from dicetalk.errors import CheckpointError, EmotionError, NoFaceError, SettingError, SpeechError, VideoError
from dicetalk.hooks import Hooks
from dicetalk.portrait.faces import FaceBox

SIZES = EmbedderConfig(visual_dim=3, audio_dim=6, dim=256, layers=1, heads=2, hidden_dim=16, visual_fps=12.5)
PRIORS = {
    name: EmotionPrior(torch.randn(256, generator=torch.Generator().manual_seed(i)), name=name)
    for i, name in enumerate(PRESET_NAMES)
}


class MeanColour:
    """Reads a face's mean red, green and blue, 0 to 1; no face where it is blue."""

    crop = FaceCrop(8)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        colours = crops.reshape(len(crops), -1, 3).mean(axis=1) / 255
        colours[colours[:, 2] > 0.5] = np.nan
        return colours.astype(np.float32)


class RedIsHappy(MeanColour):
    """In place of a recogniser: red is the share of happy."""

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(crops), 8), np.float32)
        scores[:, PRESET_NAMES.index("happy")] = super().__call__(crops)[:, 0]
        return scores


BY_COLOUR = Recognition(RedIsHappy(), PRIORS)


def happiness(emotion: EmotionPrior | EmotionTrack, seconds: float = 0.0) -> float:
    mu = emotion.mu if isinstance(emotion, EmotionPrior) else emotion.at([seconds]).mu[0]
    neutral, happy = PRIORS["neutral"].mu, PRIORS["happy"].mu
    return float((mu - neutral) @ (happy - neutral) / (happy - neutral).square().sum())


def embedder(seed: int = 0) -> EmotionEmbedder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EmotionEmbedder(SIZES).requires_grad_(False).eval()


def quiet(told: list[str] | None = None) -> Hooks:
    return Hooks(notice=(told if told is not None else []).append)


# Crops


def test_a_crop_shows_the_box_and_draws_out_the_edge() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:20, 30:50] = 200
    inside = FaceCrop(8, square=False)(picture, FaceBox(30, 10, 20, 10))
    assert inside.shape == (8, 8, 3) and (inside == 200).all()
    square = FaceCrop(20)(picture, FaceBox(30, 10, 20, 10))
    assert (square[5:15] == 200).all() and not square[:5].any() and not square[15:].any()
    assert (FaceCrop(4)(picture, FaceBox(-500, -500, 9, 9)) == picture[0, 0]).all()
    wide = FaceCrop(40, expand=0.5)(picture, FaceBox(30, 10, 20, 10))
    assert (wide[15:25, 10:30] == 200).all() and wide.sum() == 200 * 3 * 200


# Watching


def moving(count: int, blank: range = range(0)) -> np.ndarray:
    """Grey pictures with a square that moves and becomes redder; in `blank` ones it is missing."""
    frames = np.full((count, 96, 128, 3), 40, np.uint8)
    for number in range(count):
        if number not in blank:
            frames[number, 20:60, 10 + number % 40 : 50 + number % 40] = 130 + number % 100, 60, 20
    return frames


def test_the_face_is_followed_between_looks() -> None:
    frames = moving(30)
    crops = list(follow(iter(frames), FaceCrop(40), BrightSquare()))
    assert len(crops) == 30
    for number, crop in enumerate(crops):
        # Boxes are rounded to whole pixels: an edge may show.
        assert np.abs(crop[2:-2, 2:-2].astype(int) - [130 + number, 60, 20]).max() == 0


class Forgetful:
    """A detector that misses some of its looks."""

    def __init__(self, misses: set[int]):
        self.misses, self.looks = misses, 0

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        self.looks += 1
        return [] if self.looks - 1 in self.misses else BrightSquare().detect(picture)


def test_a_few_misses_of_the_detector_are_no_loss() -> None:
    misses = set(range(3, 3 + BRIDGE_LOOKS))
    crops = list(follow(iter(moving(40)), FaceCrop(40), Forgetful(misses)))
    assert len(crops) == 40 and all(crop is not None for crop in crops)
    assert crops[12][20, 20].tolist() == [142, 60, 20]
    lost = list(follow(iter(moving(40)), FaceCrop(40), Forgetful({*misses, max(misses) + 1})))
    gone = [number for number, crop in enumerate(lost) if crop is None]
    # The third look is the last before, and the eighth the first after.
    before, after = 2 * LOOK_EVERY, (4 + BRIDGE_LOOKS) * LOOK_EVERY
    assert gone == list(range(before + 1, after)) and len(lost) == 40


def test_the_face_is_taken_that_was_taken_before() -> None:
    class Two:
        def __init__(self) -> None:
            self.looks = 0

        def detect(self, picture: np.ndarray) -> list[FaceBox]:
            self.looks += 1
            small, large = FaceBox(10, 10, 20, 20), FaceBox(60, 20, 10 + 4.0 * self.looks, 30)
            return [large, small] if self.looks > 1 else [small]

    frames = np.zeros((12, 90, 120, 3), np.uint8)
    frames[:, 10:30, 10:30] = 90
    assert all((crop == 90).all() for crop in follow(iter(frames), FaceCrop(10), Two()))


def test_no_crop_floats_between_two_scenes() -> None:
    frames = moving(12)
    frames[6:] = frames[6:, ::-1, ::-1]
    crops = list(follow(iter(frames), FaceCrop(40), BrightSquare()))
    shown = [crop is not None and abs(int(crop[20, 20, 0]) - 130 - number) < 1 for number, crop in enumerate(crops)]
    assert sum(shown) >= 11  # the cut is known to a look


def test_lost_faces_are_bridged_and_told() -> None:
    told: list[str] = []
    readings = watch(reference_of(moving(60, range(20, 45))), MeanColour(), BrightSquare(), quiet(told))
    (span,) = readings.spans
    assert span.start == pytest.approx(20 / 12.5, abs=0.17) and span.end == pytest.approx(45 / 12.5, abs=0.17)
    assert readings.values[[0, 57], 0] == pytest.approx(np.array([130, 187]) / 255, abs=0.02)
    assert readings.values[32, 0] == pytest.approx((130 + 32) / 255, abs=0.02)
    assert len(told) == 1 and "1.5 to 3.6 s" in told[0] and "%" in told[0]
    assert not watch(reference_of(moving(5)), MeanColour(), BrightSquare(), quiet(told)).spans and len(told) == 1


def test_what_the_reader_does_not_take_for_a_face_is_lost() -> None:
    frames = moving(30)
    frames[9:15, ..., 2][frames[9:15, ..., 0] > 100] = 89  # still a face for the detector

    class Choosy(MeanColour):
        def __call__(self, crops: np.ndarray) -> np.ndarray:
            read = super().__call__(crops)
            read[read[:, 2] > 0.3] = np.nan
            return read

    readings = watch(reference_of(frames), Choosy(), BrightSquare(), quiet())
    assert readings.lost.tolist() == [9 <= number < 15 for number in range(30)]
    assert np.isfinite(readings.values).all()


def test_a_clip_without_a_face_is_an_error() -> None:
    with pytest.raises(NoFaceError, match="one face from the front"):
        watch(reference_of(moving(10, range(10))), MeanColour(), BrightSquare())
    with pytest.raises(VideoError, match="no pictures"):
        watch(reference_of(sound=(np.zeros(16000, np.float32), 16000)), MeanColour(), BrightSquare())


def test_cancelling_stops_the_watching() -> None:
    from dicetalk.errors import Cancelled

    with pytest.raises(Cancelled):
        watch(reference_of(moving(10)), MeanColour(), BrightSquare(), Hooks(cancelled=lambda: True))


@pytest.mark.parametrize("blank", [range(0), range(7500), range(40, 7400)])
def test_ten_minutes_need_the_memory_of_a_few_pictures(blank: range) -> None:
    shown = moving(1)[0], moving(1, range(1))[0]

    def stream() -> Iterator[np.ndarray]:
        return (shown[number in blank].copy() for number in range(7500))

    reference = Reference("long", 7500, stream, None)
    tracemalloc.start()
    try:
        if len(blank) == 7500:
            with pytest.raises(NoFaceError):
                watch(reference, MeanColour(), BrightSquare(), quiet())
        else:
            assert len(watch(reference, MeanColour(), BrightSquare(), quiet()).values) == 7500
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150 * shown[0].nbytes  # and all of them are 7500


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
    from PIL import Image

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
    with pytest.raises((VideoError, NoFaceError), match="noise"):
        watch(open_reference(tmp_path / "noise.mp4"), MeanColour(), Forgetful(set(range(99))))


def test_ten_minutes_of_video_in_bounded_memory(tmp_path: Path) -> None:
    times = [2.0 * n for n in range(300)]
    path = red_film(tmp_path / "long.mp4", times, [140 + n % 100 for n in range(300)], 600.0)
    tracemalloc.start()
    try:
        found = extract_emotion(path, BY_COLOUR, as_track=True, detector=BrightSquare())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.emotion.keyframes) == pytest.approx(7500, abs=2)
    # The track itself is 7500 x 256 x 4 bytes, in a few copies; the pictures would be 276 MB.
    assert peak < 100e6


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
    monkeypatch.setattr("dicetalk.emotion.extract.CenterFace", BrightSquare)


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
    with pytest.raises(SettingError, match="--modality has no influence by recogniser"):
        run(clip, "--out", out, "--models", models, "--by", "recogniser", "--modality", "audio")
    (models / "emotion" / "sad.npy").unlink()
    with pytest.raises(CheckpointError, match=r"sad\.npy"):
        run(clip, "--out", out, "--models", models)
