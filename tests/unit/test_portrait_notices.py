"""Faces that are small, blown up, cut off or several, in photographs as people have them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.notices import face_notices
from dicetalk.portrait.prepare import Portrait, prepare_portrait

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    return CenterFace()


def photograph(*places: tuple[int, int, int], size: tuple[int, int] = (1280, 960)) -> np.ndarray:
    """The example portrait on a grey wall, so often: side, x and y of each, which may reach over the border."""
    wall = Image.new("RGB", size, "#8090a0")
    for side, x, y in places:
        wall.paste(Image.open(PORTRAIT).resize((side, side), Image.Resampling.LANCZOS), (x, y))
    return np.asarray(wall)


def noticed(picture: np.ndarray, detector: CenterFace, **choices: object) -> tuple[Portrait, list[str]]:
    portrait = prepare_portrait(picture, detector=detector, **choices)
    return portrait, face_notices(portrait, "--crop --paste-back", "--face-index")


def test_an_ordinary_portrait_needs_no_notice(detector: CenterFace) -> None:
    for choices in ({}, {"crop": True}, {"whole_picture": True}):
        assert noticed(np.asarray(Image.open(PORTRAIT)), detector, **choices)[1] == []
    assert noticed(photograph((900, 200, 20)), detector)[1] == []


def test_a_small_face_names_its_size_and_the_crop(detector: CenterFace) -> None:
    portrait, (text,) = noticed(photograph((460, 500, 300)), detector)
    rows, columns = ((portrait.mask[0] > 0.5).any(axis).sum().item() / 1.1 for axis in (1, 0))
    numbers = [int(word) for word in text.replace(".", "").split() if word.isdigit()]
    assert numbers[:2] == pytest.approx([columns, rows], abs=3) and numbers[2:4] == [704, 512]
    assert "With --crop --paste-back it has about" in text and "itself" not in text
    cropped, nothing = noticed(photograph((460, 500, 300)), detector, crop=True)
    assert nothing == []
    inside = (cropped.mask[0] > 0.5).any(0).sum().item() / 1.1
    assert numbers[4] == pytest.approx(inside, abs=6)


def test_a_tiny_face_is_blown_up_by_a_crop_and_both_say_so(detector: CenterFace) -> None:
    picture = photograph((80, 600, 400))
    portrait, (text,) = noticed(picture, detector)
    size = f"{portrait.face.width:.0f} x {portrait.face.height:.0f}"
    assert "--crop --paste-back" in text and f"no more than {size} of it, so that a picture with a larger face" in text
    _, (text,) = noticed(picture, detector, crop=True)
    assert text.startswith(f"The face has {size} pixels in the picture and is enlarged to ")
    assert text.endswith("Take a picture with a larger face.")


@pytest.mark.parametrize("crop", [False, True])
def test_a_face_that_the_border_cuts_off(detector: CenterFace, crop: bool) -> None:
    portrait, (text, *_) = noticed(photograph((700, -260, 200)), detector, crop=crop)
    size = f"{portrait.face.width:.0f} x {portrait.face.height:.0f} pixels"
    assert text.startswith(f"The face ({size} at x 4, ") and "with room around it" in text
    outside = prepare_portrait(photograph((700, -260, 200)), box=(-120, 330, 260, 330), crop=crop)
    text, *_ = face_notices(outside, "", "")
    assert f"{44 if crop else 54}% of the face (260 x 330 pixels at x -120, y 330)" in text
    assert "shows the whole face" in text


def test_several_faces_name_the_choice(detector: CenterFace) -> None:
    picture = photograph((420, 40, 300), (600, 560, 200))
    portrait, (text, _) = noticed(picture, detector)
    assert portrait.face.x > 560 and portrait.passed_over == 1
    assert "2 faces were found; the largest (" in text and f"at x {portrait.face.x:.0f}" in text
    assert "Choose another with --face-index 1 to 1" in text
    for index, left in ((0, False), (1, True)):
        chosen, texts = noticed(picture, detector, face_index=index)
        assert not any("faces were found" in text for text in texts) and (chosen.face.x < 460) == left
