"""Watching a face: crops, cuts, faces that are lost, memory."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from colour_faces import MeanColour, quiet
from small_films import BrightSquare, Forgetful, moving

from dicetalk.emotion.reference.clip import Reference, reference_of
from dicetalk.emotion.reference.face_track import BRIDGE_LOOKS, LOOK_EVERY, FaceCrop, follow, watch
from dicetalk.errors import NoFaceError, VideoError
from dicetalk.hooks import Hooks
from dicetalk.portrait.faces import FaceBox


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


def test_the_face_is_followed_between_looks() -> None:
    frames = moving(30)
    crops = list(follow(iter(frames), FaceCrop(40), BrightSquare()))
    assert len(crops) == 30
    for number, crop in enumerate(crops):
        # Boxes are rounded to whole pixels: an edge may show.
        assert np.abs(crop[2:-2, 2:-2].astype(int) - [130 + number, 60, 20]).max() == 0


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


def test_lost_faces_are_bridged_and_reported() -> None:
    notices: list[str] = []
    readings = watch(reference_of(moving(60, range(20, 45))), MeanColour(), BrightSquare(), quiet(notices))
    (span,) = readings.spans
    assert span.start == pytest.approx(20 / 12.5, abs=0.17) and span.end == pytest.approx(45 / 12.5, abs=0.17)
    assert readings.values[[0, 57], 0] == pytest.approx(np.array([130, 187]) / 255, abs=0.02)
    assert readings.values[32, 0] == pytest.approx((130 + 32) / 255, abs=0.02)
    assert len(notices) == 1 and "1.5 to 3.6 s" in notices[0] and "%" in notices[0]
    assert not watch(reference_of(moving(5)), MeanColour(), BrightSquare(), quiet(notices)).spans and len(notices) == 1


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


@pytest.mark.long
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
