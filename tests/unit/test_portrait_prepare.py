"""The network's image inputs, for any box, size and choice."""

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dicetalk.errors import NoFaceError, PortraitError, SettingError
from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.prepare import crop_region, face_mask, network_size, prepare_portrait

sides = st.integers(64, 300)
numbers = st.floats(-500, 800, allow_nan=False, width=32)
lengths = st.floats(0.015625, 600, width=32)


class Found:
    """A detector that finds given faces."""

    def __init__(self, *faces: FaceBox):
        self.faces = list(faces)

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        return self.faces


class Forbidden:
    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        raise AssertionError("nobody asked for a face")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(64, 8192), st.integers(64, 8192), st.sampled_from(range(64, 2049, 64)))
def test_network_size(width: int, height: int, short_side: int) -> None:
    assume(max(width, height) <= 8 * min(width, height))
    size = network_size(width, height, short_side)
    assert min(size) == short_side and all(side % 64 == 0 for side in size)
    exact = max(width, height) / min(width, height) * short_side
    assert abs(max(size) - exact) <= 32 + 1e-6
    assert (size[0] >= size[1]) == (width >= height) or size[0] == size[1]
    assert network_size(height, width, short_side) == size[::-1]


@settings(deadline=None)
@given(
    sides,
    sides,
    st.tuples(numbers, numbers, lengths, lengths),
    st.booleans(),
    st.sampled_from([64, 128]),
    st.floats(0.5, 3),
)
def test_any_box(height: int, width: int, box: tuple, crop: bool, short_side: int, mask_scale: float) -> None:
    """Either a portrait that keeps every promise, or an error that names the box or the crop."""
    assume(max(width, height) <= 4 * min(width, height))
    source = picture(height, width)
    try:
        portrait = prepare_portrait(
            source, box=box, crop=crop, short_side=short_side, mask_scale=mask_scale, clip_size=32, detector=Forbidden()
        )
    except PortraitError as error:
        x, y, w, h = box
        off_centre = not (0 < x + w / 2 < width and 0 < y + h / 2 < height)
        if not ((off_centre or min(w, h) * mask_scale < 8 or crop) and re.search("Face box|crop", str(error))):
            raise
        return
    x0, y0, x1, y1 = portrait.crop
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert abs((x1 - x0) - (y1 - y0)) <= 1 if crop else portrait.crop == (0, 0, width, height)
    shape = network_size(x1 - x0, y1 - y0, short_side)[::-1]
    assert portrait.image.shape == (3, *shape) and portrait.mask.shape == (1, *shape)
    assert portrait.clip_pixels.shape == (3, 32, 32)
    for values in (portrait.image, portrait.mask, portrait.clip_pixels):
        assert values.dtype == torch.float32 and values.is_contiguous() and values.isfinite().all()
    assert portrait.image.abs().max() <= 1
    smallest = 0.4 if min(box[2:]) * mask_scale >= 8 else 0
    assert portrait.mask.min() >= 0 and smallest < portrait.mask.max() <= 1
    assert portrait.source is source and portrait.face == FaceBox(*box)


@given(sides, sides, numbers, numbers, lengths, lengths, st.floats(0, 2))
def test_crop_is_square_inside_and_holds_the_face(
    height: int, width: int, x: float, y: float, face_width: float, face_height: float, expand: float
) -> None:
    assume(x < width and y < height and x + face_width > 0 and y + face_height > 0)
    x0, y0, x1, y1 = crop_region(FaceBox(x, y, face_width, face_height), width, height, expand)
    assert 0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height
    assert abs((x1 - x0) - (y1 - y0)) <= 1
    inside = min(x, y) >= 0 and x + face_width <= width and y + face_height <= height
    if (
        inside
        and expand >= 0.5
        and min(width, height) >= 2 * max(face_width, face_height)
        and face_width == face_height
    ):
        assert x0 - 1 <= x and y0 - 1 <= y and x + face_width <= x1 + 1 and y + face_height <= y1 + 1


def test_mask_by_hand() -> None:
    mask = face_mask(FaceBox(10.6, 5, 8.2, 4), (0, 0, 40, 20), 1.5)
    assert set(np.unique(mask)) == {0, 255}
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (7 - 3, 7 + 3, 14 - 6, 14 + 6)
    np.testing.assert_array_equal(face_mask(FaceBox(10.6, 5, 8.2, 4), (5, 2, 30, 15), 1.5), mask[2:15, 5:30])


def test_the_crop_is_cut_out_and_the_mask_moves_with_it() -> None:
    source = picture(200, 300)
    portrait = prepare_portrait(source, box=(140, 80, 32, 32), crop=True, short_side=64)
    assert portrait.crop == (124, 64, 188, 128)
    cut = torch.from_numpy(source[64:128, 124:188]).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(portrait.image, cut, atol=1e-6, rtol=0)
    face = portrait.mask[0].nonzero()
    assert face.min(0).values.tolist() == [32 - 17, 32 - 17] and face.max(0).values.tolist() == [32 + 16, 32 + 16]


def test_whole_picture_asks_no_detector() -> None:
    portrait = prepare_portrait(picture(100, 150), whole_picture=True, detector=Forbidden(), short_side=64)
    assert portrait.face is None and portrait.crop == (0, 0, 150, 100)
    assert portrait.mask.shape == (1, *portrait.image.shape[1:]) and (portrait.mask == 1).all()


def test_the_detector_is_asked_and_a_face_chosen() -> None:
    small, large = FaceBox(10, 10, 20, 20, 0.9), FaceBox(60, 20, 50, 60, 0.8)
    detector = Found(small, large)
    assert prepare_portrait(picture(100, 150), detector=detector, short_side=64).face == large
    assert prepare_portrait(picture(100, 150), detector=detector, face_index=1, short_side=64).face == small
    with pytest.raises(PortraitError, match="Face 2 does not exist: 2 faces were found"):
        prepare_portrait(picture(100, 150), detector=detector, face_index=2, short_side=64)
    with pytest.raises(NoFaceError, match="whole picture"):
        prepare_portrait(picture(100, 150), detector=Found(), short_side=64)


def test_without_a_detector_the_packaged_one_looks() -> None:
    with pytest.raises(NoFaceError):
        prepare_portrait(np.zeros((64, 64, 3), np.uint8), short_side=64)


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((10, 10, 0, 5), "is empty"),
        ((10, 10, 5, -1), "is empty"),
        ((float("nan"), 10, 5, 5), "finite"),
        ((10, 10, float("inf"), 5), "finite"),
        ((10, 10, 5), "four"),
        ((150, 10, 5, 5), "outside"),
        ((-5, 10, 5, 5), "outside"),
        ((10, 100, 5, 5), "outside"),
        ((10, 10, 1, 1), "no pixel"),
    ],
)
def test_boxes_without_a_face(box: tuple, says: str) -> None:
    with pytest.raises(PortraitError, match=says):
        prepare_portrait(picture(100, 150), box=box, short_side=64)


def test_a_crop_too_small_to_animate() -> None:
    with pytest.raises(PortraitError, match=r"4 x 4 pixels"):
        prepare_portrait(picture(100, 150), box=(50, 50, 2, 2), crop=True, short_side=64)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"short_side": 100}, "short_side is 100"),
        ({"short_side": 0}, "short_side"),
        ({"short_side": 2112}, "short_side"),
        ({"short_side": 64.5}, "short_side"),
        ({"mask_scale": 0}, "mask_scale"),
        ({"mask_scale": float("nan")}, "mask_scale is nan"),
        ({"clip_size": 0}, "clip_size"),
        ({"whole_picture": True, "box": (1, 2, 30, 40)}, "whole_picture"),
        ({"whole_picture": True, "crop": True}, "whole_picture"),
        ({"whole_picture": True, "face_index": 0}, "whole_picture"),
        ({"box": (1, 2, 30, 40), "face_index": 0}, "face_index"),
    ],
)
def test_settings_out_of_range(choice: dict, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        prepare_portrait(picture(100, 150), detector=Forbidden(), **choice)


def test_pixels_of_another_kind() -> None:
    with pytest.raises(PortraitError, match="read_picture"):
        prepare_portrait(np.zeros((64, 64, 3), np.float32), whole_picture=True)
    with pytest.raises(PortraitError, match=r"\(64, 64\)"):
        prepare_portrait(np.zeros((64, 64), np.uint8), whole_picture=True)


def test_the_margin_widens_the_crop() -> None:
    picture = np.full((300, 300, 3), 128, np.uint8)
    box = (120.0, 110.0, 60.0, 60.0)
    sides = []
    for margin in (0.0, 0.5, 1.0):
        x0, y0, x1, y1 = prepare_portrait(picture, box=box, crop=True, short_side=64, margin=margin).crop
        assert x1 - x0 == y1 - y0
        sides.append(x1 - x0)
    assert sides == [60, 120, 180]
    with pytest.raises(SettingError, match="margin"):
        prepare_portrait(picture, box=box, crop=True, margin=-0.1)
