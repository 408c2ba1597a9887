"""Made-up faces: who they are, what they show, and what can be measured of it in their pixels."""

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dicetalk.drawn.faces.expression import ACTION_UNITS, EMOTION_UNITS, UNIT, blinks, emotion_weights, express
from dicetalk.drawn.faces.geometry import mirrored, ribbon, spline
from dicetalk.drawn.faces.identity import identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import POSE, Pose, head_motion, smooth_noise
from dicetalk.drawn.faces.mouth import measure_mouth
from dicetalk.drawn.faces.render import FaceRenderer, Frame
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import EmotionError, SettingError
from dicetalk.evaluate.mouth import mouth_curve

FPS = 12.5
TRAIN, TEST = identity_seeds("train"), identity_seeds("test")


def acted(
    seed: int, emotion: str, intensity: float, frames: int, take: int = 0, speaking: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients, poses and mouth of a person who talks with an emotion."""
    rng = np.random.default_rng([seed, take, PRESET_NAMES.index(emotion)])
    weights = emotion_weights(emotion, intensity, frames)
    jaw = (0.45 + 0.4 * smooth_noise(rng, frames, FPS, 0.16, 1)[:, 0]).clip(0, 1) * speaking
    coefficients = express(sample_identity(seed).manner, weights, jaw, 0.4 * jaw, FPS, rng)
    return coefficients, head_motion(weights, 0.4 * jaw, FPS, rng), jaw


def renderer(seed: int, take: int = 0, size: int = 128) -> FaceRenderer:
    return FaceRenderer(sample_identity(seed), sample_scene(np.random.default_rng([seed, take])), size)


def snapshots(seeds: range, intensity: float, take: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One picture of each person with each emotion, taken while talking, and the emotions' numbers."""
    pictures = []
    for seed in seeds:
        person = renderer(seed, take)
        for emotion in PRESET_NAMES:
            coefficients, poses, _ = acted(seed, emotion, intensity, 24, take)
            i = int(coefficients[:, UNIT["blink"]].argmin())
            pictures.append(person.draw(coefficients[i], Pose(*poses[i])).pixels)
    return np.stack(pictures), np.tile(np.arange(len(PRESET_NAMES)), len(seeds))


def edges(pictures: np.ndarray, cell: int = 6, directions: int = 8) -> np.ndarray:
    """How strong the edges of each direction are around each point of the face, ``(N, features)``."""
    rows = []
    for picture in pictures:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[30:114, 28:100].astype(np.float32)
        strength, angle = cv2.cartToPolar(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        bins = (angle % np.pi) * (directions / np.pi)
        cells = []
        for direction in range(directions):
            away = np.abs(bins - direction)
            share = strength * (1 - np.minimum(away, directions - away)).clip(0)
            cells.append(cv2.GaussianBlur(share, (0, 0), cell / 2)[cell // 2 :: cell, cell // 2 :: cell])
        local = np.sqrt(cv2.GaussianBlur(np.square(cells).sum(0), (0, 0), 1.5)) + 8
        rows.append(np.sqrt(np.stack(cells) / local).ravel())
    return np.stack(rows)


# Identities


def test_identities_are_deterministic_and_differ() -> None:
    assert sample_identity(7) == sample_identity(7)
    assert len({sample_identity(seed).shape for seed in range(50)}) == 50


def test_splits_share_no_identity() -> None:
    assert not set(TRAIN) & set(TEST)
    assert len(TRAIN) >= 10_000 and len(TEST) >= 100
    with pytest.raises(SettingError, match="validation"):
        identity_seeds("validation")


def test_identities_are_rich() -> None:
    people = [sample_identity(seed) for seed in range(400)]
    assert len({person.hair.style for person in people}) == 13
    assert {person.extras.glasses for person in people} == {"none", "round", "square"}
    assert {person.extras.beard for person in people} == {"none", "stubble", "full", "goatee", "moustache"}
    assert 0.4 < np.mean([person.high_voice for person in people]) < 0.6
    brightness = [sum(person.skin) for person in people]
    assert min(brightness) < 280 and max(brightness) > 580
    assert not any(person.high_voice and person.extras.beard != "none" for person in people)


def test_twenty_unseen_identities_are_told_apart_across_expressions_and_scenes() -> None:
    def thumbnails(take: int) -> np.ndarray:
        pictures, _ = snapshots(TEST[:20], 1.0, take)
        small = [cv2.resize(picture[30:108, 40:88], (12, 12), interpolation=cv2.INTER_AREA) for picture in pictures]
        return np.stack(small).reshape(20, len(PRESET_NAMES), -1) / 40

    people = np.arange(20).repeat(4)
    seen = np.concatenate([thumbnails(take)[:, :4].reshape(80, -1) for take in (0, 1)])
    classifier = LogisticRegression(C=0.1, max_iter=500).fit(seen - seen.mean(0), np.tile(people, 2))
    other_emotions_elsewhere = thumbnails(2)[:, 4:].reshape(80, -1)
    assert (classifier.predict(other_emotions_elsewhere - seen.mean(0)) == people).mean() >= 0.95


# Expressions


def test_every_preset_has_units_and_every_unit_is_known() -> None:
    assert tuple(EMOTION_UNITS) == PRESET_NAMES
    assert {unit for units in EMOTION_UNITS.values() for unit in units} <= set(ACTION_UNITS)
    assert not any(unit in units for units in EMOTION_UNITS.values() for unit in ("jaw_open", "blink"))


def test_intensity_is_linear_and_acts_on_the_difference_to_neutral() -> None:
    assert not emotion_weights("neutral", 1.0, 3).any()
    sad = emotion_weights("sad", 0.6, 3)
    assert sad.shape == (3, 8) and sad[:, PRESET_NAMES.index("sad")] == pytest.approx(0.6)
    assert sad.sum() == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("emotion", "intensity", "said"), [("bored", 1.0, "bored"), ("happy", 1.2, "1.2"), ("happy", -1, "-1")]
)
def test_bad_emotions_are_refused(emotion: str, intensity: float, said: str) -> None:
    with pytest.raises(EmotionError, match=said):
        emotion_weights(emotion, intensity, 3)


def test_happy_lifts_the_corners_and_intensity_orders_them() -> None:
    for seed in TEST[:10]:
        lifts = [acted(seed, "happy", level, 25)[0][:, UNIT["corner_up"]].mean() for level in (0, 0.3, 0.6, 1.0)]
        assert lifts == sorted(lifts) and lifts[3] - lifts[0] > 0.5


@pytest.mark.parametrize("seed", TEST[:6])
def test_contempt_curls_the_same_corner_in_everybody(seed: int) -> None:
    person = renderer(seed)
    coefficients, _, _ = acted(seed, "contempt", 1.0, 5, speaking=False)
    left, right = person.draw(coefficients[0], Pose()).landmarks[3:, 1]
    calm, _, _ = acted(seed, "neutral", 1.0, 5, speaking=False)
    calm_left, calm_right = person.draw(calm[0], Pose()).landmarks[3:, 1]
    assert calm_right - right > 3 and abs(calm_left - left) < 1.5


def test_jaw_coefficient_is_the_speech_alone() -> None:
    for emotion in PRESET_NAMES:
        coefficients, _, jaw = acted(3, emotion, 1.0, 30)
        np.testing.assert_allclose(coefficients[:, UNIT["jaw_open"]], jaw, rtol=1e-6)


def test_identity_leaks_through_the_coefficients() -> None:
    def means(emotion: str, take: int) -> np.ndarray:
        return np.stack([acted(seed, emotion, 1.0, 40, take)[0][:, : UNIT["jaw_open"]].mean(0) for seed in TEST[:20]])

    found = np.linalg.norm(means("happy", 1)[:, None] - means("happy", 0), axis=-1).argmin(1)
    assert (found == np.arange(20)).mean() > 0.7
    # Across emotions it leaks less, but far above the 5 % of chance once each emotion's mean is taken off.
    sad, happy = means("sad", 0), means("happy", 0)
    found = np.linalg.norm((sad - sad.mean(0))[:, None] - (happy - happy.mean(0)), axis=-1).argmin(1)
    assert (found == np.arange(20)).mean() > 0.2


def test_emotions_are_told_apart_in_the_pixels_of_unseen_identities() -> None:
    pictures, emotions = snapshots(TRAIN[:130], 1.0)
    features = edges(pictures)
    mean = features.mean(0)
    classifier = LogisticRegression(max_iter=300).fit(features - mean, emotions)

    def accuracy(intensity: float) -> float:
        unseen, truth = snapshots(TEST[:25], intensity)
        return float((classifier.predict(edges(unseen) - mean) == truth).mean())

    strong, weak = accuracy(1.0), accuracy(0.3)
    assert strong > 0.95
    assert 1.3 / len(PRESET_NAMES) < weak < strong - 0.2


def test_blinks_are_short_and_rare() -> None:
    closed = blinks(1000, FPS, np.random.default_rng(0))
    starts = (np.diff((closed > 0.5).astype(int)) == 1).sum()
    assert 1000 / FPS / 5.5 < starts < 1000 / FPS / 1.8
    assert closed.max() > 0.8 and (closed > 0.5).mean() < 0.12


# Motion


def test_head_moves_smoothly_and_a_little() -> None:
    pose = head_motion(emotion_weights("neutral", 0, 400), np.zeros(400), FPS, np.random.default_rng(1))
    assert pose.shape == (400, len(POSE))
    assert (np.abs(np.diff(pose, axis=0)).mean(0) < 0.6 * pose.std(0)).all()
    assert pose[:, POSE.index("roll")].std() < 0.05 and pose[:, POSE.index("yaw")].std() > 0.03


def test_noise_keeps_its_deviation() -> None:
    noise = smooth_noise(np.random.default_rng(0), 20_000, FPS, 1.0, 2)
    assert noise.shape == (20_000, 2)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.08)


def test_pose_moves_the_landmarks() -> None:
    person = renderer(2)
    rest = acted(2, "neutral", 0, 1, speaking=False)[0][0]
    straight = person.draw(rest, Pose()).landmarks
    unit = 0.335 * 128
    np.testing.assert_allclose(person.draw(rest, Pose(x=0.1)).landmarks - straight, [[0.1 * unit, 0]] * 5, atol=1e-3)
    turned = person.draw(rest, Pose(yaw=0.2)).landmarks - straight
    assert turned[2, 0] > turned[0, 0] > 0  # the nose stands out most
    rolled = person.draw(rest, Pose(roll=0.1)).landmarks
    assert rolled[1, 1] - rolled[0, 1] > straight[1, 1] - straight[0, 1] + 1


# Pictures


def test_frames_are_deterministic() -> None:
    coefficients, poses, _ = acted(5, "fear", 1.0, 2)
    first, second = (renderer(5).draw(coefficients[1], Pose(*poses[1])) for _ in range(2))
    for one, other in zip(vars(first).values(), vars(second).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [64, 128, 200])
def test_frames_have_the_size_asked_for(size: int) -> None:
    frame = renderer(9, size=size).draw(acted(9, "happy", 1.0, 1)[0][0], Pose())
    assert frame.pixels.shape == (size, size, 3) and frame.pixels.dtype == np.uint8
    x, y, width, height = frame.box / size
    assert 0.4 < width < 0.62 and 0.6 < height < 0.8 and x > 0.1 and y > 0.05 and y + height < 0.95
    eyes, nose, mouth = frame.landmarks[:2], frame.landmarks[2], frame.landmarks[3:]
    assert eyes[0, 0] < nose[0] < eyes[1, 0] and mouth[0, 0] < nose[0] < mouth[1, 0]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min()


def test_sizes_show_the_same_picture() -> None:
    rest = acted(4, "neutral", 0, 1)[0][0]
    large = cv2.resize(renderer(4, size=256).draw(rest, Pose()).pixels, (128, 128), interpolation=cv2.INTER_AREA)
    small = renderer(4, size=128).draw(rest, Pose()).pixels
    assert np.abs(large.astype(float) - small).mean() < 4


def test_what_is_not_the_face_stays_still() -> None:
    person = renderer(12)
    coefficients, _, _ = acted(12, "angry", 1.0, 20)
    frames = np.stack([person.draw(row, Pose()).pixels for row in coefficients]).astype(int)
    changed = np.ptp(frames, axis=0).max(-1) > 0
    assert not changed[:, :20].any() and not changed[:, -20:].any() and not changed[-12:].any()
    assert changed[45:110, 40:88].mean() > 0.3


# The mouth


def blurred(frames: np.ndarray) -> np.ndarray:
    """What a small network makes of frames: softer, with noise."""
    noise = np.random.default_rng(0).normal(0, 4, frames.shape)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.9) for frame in frames])
    return (soft + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("emotion", PRESET_NAMES)
def test_mouth_is_measured_in_the_pixels(emotion: str) -> None:
    for seed in TEST[40:43]:
        coefficients, poses, jaw = acted(seed, emotion, 1.0, 32)
        frames = pixels(renderer(seed).draw_clip(coefficients, poses))
        measured = measure_mouth(frames)
        assert np.corrcoef(measured, jaw)[0, 1] > 0.98
        assert 0.7 < np.polyfit(jaw, measured, 1)[0] < 1.3
        assert np.corrcoef(measure_mouth(blurred(frames)), jaw)[0, 1] > 0.95


def test_closed_mouths_measure_closed() -> None:
    for seed in (*TRAIN[:40], *TEST[:40]):
        emotion = PRESET_NAMES[seed % 8]
        coefficients, poses, _ = acted(seed, emotion, 1.0, 2, speaking=False)
        frames = pixels(renderer(seed).draw_clip(coefficients, poses))
        assert measure_mouth(frames).max() < 0.1
        assert measure_mouth(blurred(frames)).max() < 0.15


def pixels(frames: list[Frame]) -> np.ndarray:
    return np.stack([frame.pixels for frame in frames])


def tone(hertz: np.ndarray, level: np.ndarray, sample_rate: int) -> np.ndarray:
    """A buzz whose formant lies at `hertz`."""
    phase = 2 * np.pi * np.cumsum(hertz) / sample_rate
    return (level * np.sin(phase)).astype(np.float32)


def test_silence_closes_the_mouth_and_loudness_opens_it() -> None:
    rate = 16_000
    level = np.repeat((0, 0.02, 0.2, 0), rate)
    opening, stress = mouth_curve(tone(np.full(4 * rate, 600.0), level, rate), rate, 50, FPS)
    assert opening.shape == stress.shape == (50,)
    assert not opening[:11].any() and not opening[39:].any()
    assert 0 < opening[18] < opening[31] and opening[31] > 0.8
    assert stress[31] > 0.5 and stress[5] == 0


def test_open_vowels_open_the_mouth_further() -> None:
    rate = 16_000
    hertz = np.repeat((300.0, 700.0), rate)
    opening, _ = mouth_curve(tone(hertz, np.full(2 * rate, 0.2), rate), rate, 25, FPS)
    assert opening[6] < 0.6 * opening[18]


def test_mouth_opens_in_the_frame_of_the_sound() -> None:
    rate = 22_050
    level = np.zeros(4 * rate)
    level[rate * 2 : rate * 2 + rate // 5] = 0.2
    opening, _ = mouth_curve(tone(np.full(4 * rate, 600.0), level, rate), rate, 50, FPS)
    assert opening.argmax() in (25, 26)
    assert np.flatnonzero(opening).min() >= 24 and np.flatnonzero(opening).max() <= 28


def test_hisses_hardly_open_the_mouth() -> None:
    rate = 16_000
    noise = np.random.default_rng(0).normal(0, 0.2, 2 * rate)
    hiss = np.convolve(noise, (1, -2, 1), "same").astype(np.float32)
    assert mouth_curve(hiss, rate, 25, FPS)[0].max() < 0.2


def test_curve_does_not_depend_on_what_is_said_later() -> None:
    rate = 16_000
    sound = np.random.default_rng(0).normal(0, 0.1, 4 * rate).astype(np.float32)
    whole, part = mouth_curve(sound, rate, 50, FPS)[0], mouth_curve(sound[: 2 * rate], rate, 25, FPS)[0]
    np.testing.assert_allclose(whole[:23], part[:23], atol=1e-5)


# Curves


def test_spline_passes_through_its_points() -> None:
    points = np.array(((0, 0), (1, 2), (3, 1), (4, 4)), float)
    np.testing.assert_allclose(spline(points, 6)[::6], points, atol=1e-12)
    closed = spline(points, 5, closed=True)
    assert closed.shape == (20, 2)
    np.testing.assert_allclose(closed[::5], points, atol=1e-12)


def test_mirrored_is_symmetric_and_keeps_the_axis_once() -> None:
    line = mirrored(np.array(((-2, 1), (-1, 0), (0, -1))))
    np.testing.assert_array_equal(line, line[::-1] * (-1, 1))
    assert len(line) == 5 and len(mirrored(np.array(((-2, 1), (-1, 0))))) == 4


def test_ribbon_has_the_width_asked_for() -> None:
    line = np.stack((np.linspace(0, 1, 5), np.zeros(5)), 1)
    band = ribbon(line, np.full(5, 0.2))
    np.testing.assert_allclose(np.ptp(band, axis=0), (1, 0.2))
