"""Choosing among faces, suppressing overlaps, and finding real ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.errors import NoFaceError, PortraitError
from dicetalk.portrait.centerface import CELL, LARGEST_PICTURE, CenterFace, decode, pyramid_sides
from dicetalk.portrait.faces import FaceBox, choose_face, suppress_overlaps
from dicetalk.portrait.read import read_picture

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "portraits"
PORTRAITS = sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []
real = pytest.mark.skipif(not PORTRAITS, reason=f"{FOLDER} is absent")


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    shrinks = side < max(picture.shape)
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def overlap(a: FaceBox, b: FaceBox) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(width, 0) * max(height, 0)
    return shared / (a.area + b.area - shared)


def scaled(face: FaceBox, scale: float, x: float = 0, y: float = 0) -> FaceBox:
    return FaceBox(face.x * scale + x, face.y * scale + y, face.width * scale, face.height * scale)


@given(st.lists(st.tuples(st.floats(1, 1e3), st.floats(1, 1e3)), min_size=1, max_size=8))
def test_choose_face(sizes: list[tuple[float, float]]) -> None:
    faces = [FaceBox(0, 0, width, height) for width, height in sizes]
    areas = sorted((face.area for face in faces), reverse=True)
    assert choose_face(faces).area == areas[0]
    assert [choose_face(faces, index).area for index in range(len(faces))] == areas
    for index in (-1, len(faces)):
        with pytest.raises(PortraitError, match=rf"Face {index} .*{len(faces)} faces? (was|were) found"):
            choose_face(faces, index)


def test_no_face_names_the_two_ways_on() -> None:
    with pytest.raises(NoFaceError, match=r"box .*whole picture"):
        choose_face([])


def test_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [0, 0, 10, 6]], np.float32)
    scores = np.array([0.9, 0.8, 0.95, 0.7], np.float32)
    assert suppress_overlaps(boxes, scores, 0.55).tolist() == [2, 0, 1]  # 0.6 goes, 0.5 stays, 5/6 is asked of the kept
    assert suppress_overlaps(boxes, scores, 0.49).tolist() == [2, 0]
    assert suppress_overlaps(boxes, scores, 1.0).tolist() == [2, 0, 1, 3]
    assert suppress_overlaps(boxes[:0], scores[:0], 0.5).tolist() == []


@given(
    st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 30)] * 2, st.floats(0, 1)), max_size=12),
    st.floats(0, 1),
)
def test_suppression_keeps_no_overlap_and_drops_nothing_alone(rows: list[tuple], threshold: float) -> None:
    faces = [FaceBox(*row) for row in rows]
    boxes = np.array([[f.x, f.y, f.x + f.width, f.y + f.height] for f in faces], float).reshape(-1, 4)
    kept = suppress_overlaps(boxes, np.array([f.score for f in faces]), threshold).tolist()
    for position, index in enumerate(kept):
        assert all(overlap(faces[index], faces[other]) <= threshold + 1e-9 for other in kept[:position])
    for index in set(range(len(faces))) - set(kept):
        assert any(
            overlap(faces[index], faces[other]) > threshold - 1e-9 and faces[other].score >= faces[index].score
            for other in kept
        )


def test_decode_by_hand() -> None:
    heatmap, size = np.zeros((1, 4, 6), np.float32), np.zeros((2, 4, 6), np.float32)
    offset, landmarks = np.zeros((2, 4, 6), np.float32), np.zeros((10, 4, 6), np.float32)
    heatmap[0, 2, 3] = 0.75
    size[:, 2, 3] = np.log([5, 3])  # cells high, cells wide
    offset[:, 2, 3] = (0.25, -0.5)
    landmarks[:2, 2, 3] = (0.4, 0.3)
    (row,) = decode(heatmap, size, offset, landmarks, 0.5)
    centre_x, centre_y = (3 + 0.5 - 0.5) * CELL, (2 + 0.5 + 0.25) * CELL
    x0, y0 = centre_x - 1.5 * CELL, centre_y - 2.5 * CELL
    np.testing.assert_allclose(row[:5], [0.75, x0, y0, x0 + 3 * CELL, y0 + 5 * CELL], rtol=1e-6)
    np.testing.assert_allclose(row[5:9], [x0 + 0.3 * 3 * CELL, y0 + 0.4 * 5 * CELL, x0, y0], rtol=1e-6)
    assert decode(heatmap, size, offset, landmarks, 0.8).shape == (0, 15)


@given(st.integers(64, 8192))
def test_pyramid_is_bounded(longest: int) -> None:
    sides = pyramid_sides(longest)
    assert LARGEST_PICTURE >= sides[0] >= min(longest, LARGEST_PICTURE)
    assert len(sides) <= 3 and sides == sorted(sides, reverse=True) and sides[-1] >= 240


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    return CenterFace()


@pytest.mark.parametrize("shape", [(64, 64), (64, 512), (300, 200)])
def test_pictures_without_a_face(detector: CenterFace, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for picture in (noise, np.zeros_like(noise), cv2.GaussianBlur(noise, (0, 0), 9)):
        assert detector.detect(picture) == []


@real
@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.name)
def test_one_face_at_every_size(detector: CenterFace, path: Path) -> None:
    picture = read_picture(path)
    (face,) = detector.detect(picture)
    assert face.score > 0.8
    eyes, nose, mouth = face.landmarks[:2], face.landmarks[2], face.landmarks[3:]
    assert face.x < eyes[0][0] < nose[0] < eyes[1][0] < face.x + face.width
    assert face.y < max(eyes[0][1], eyes[1][1]) < nose[1] < min(mouth[0][1], mouth[1][1]) < face.y + face.height
    for side in (64, 150, 333, 2000):
        (found,) = detector.detect(resized(picture, side))
        assert overlap(scaled(found, max(picture.shape) / side), face) > 0.75, side


@real
@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.name)
def test_a_small_face_in_a_large_picture(detector: CenterFace, path: Path) -> None:
    picture = read_picture(path)
    (face,) = detector.detect(picture)
    large = np.full((3000, 4000, 3), 90, np.uint8)
    large[1000:1200, 2500:2700] = resized(picture, 200)
    (found,) = detector.detect(large)
    assert overlap(found, scaled(face, 200 / max(picture.shape), 2500, 1000)) > 0.6


@real
@settings(deadline=None, max_examples=10)
@given(st.permutations([128, 220, 400]))
def test_several_faces(detector: CenterFace, sides: list[int]) -> None:
    pictures = [read_picture(PORTRAITS[i % len(PORTRAITS)]) for i in range(3)]
    (lone,) = detector.detect(pictures[0])
    group = np.full((400, sum(sides), 3), 128, np.uint8)
    starts = [0, sides[0], sides[0] + sides[1]]
    for picture, side, start in zip(pictures, sides, starts, strict=True):
        group[-side:, start : start + side] = resized(picture, side)
    faces = detector.detect(group)
    assert len(faces) == 3
    assert [face.area for face in faces] == sorted((face.area for face in faces), reverse=True)
    for index, side in enumerate(sorted(sides, reverse=True)):
        start = starts[sides.index(side)]
        face = choose_face(faces, index)
        assert start < face.x + face.width / 2 < start + side
        assert face.height == pytest.approx(lone.height * side / max(pictures[0].shape), rel=0.25)
    assert choose_face(faces) == choose_face(faces, 0)
