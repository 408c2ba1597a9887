"""Emotions as files: what comes back, what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dicetalk.emotion.files import MAX_FILE_BYTES, SavedEmotion, import_npy, load_emotion, save_emotion
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, space_of
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.errors import EmotionError, OutputError

HERE = Path(__file__).parent
SPACE = "ab" * 32
MU = torch.linspace(-1, 1, 256)


def prior(factor: float = 1.0, sigma: float | None = 0.1) -> EmotionPrior:
    return EmotionPrior(factor * MU, None if sigma is None else torch.full((256,), sigma), "mine")


TRACK = EmotionTrack((Keyframe(0.04, prior(), "smooth"), Keyframe(1 / 3, prior(2), "hold"), Keyframe(7, prior(3))))


# The space


def test_space_is_that_of_the_eight_means() -> None:
    priors = {name: prior(i) for i, name in enumerate(PRESET_NAMES)}
    space = space_of(priors)
    assert len(space) == 64 and space == space_of(dict(reversed(priors.items())) | {"mine": prior(9)})
    assert space == space_of({name: EmotionPrior(p.mu) for name, p in priors.items()}), "spread does not count"
    changed = priors["fear"].mu.clone()
    changed[3] += 1e-6
    assert space != space_of(priors | {"fear": EmotionPrior(changed)})
    with pytest.raises(EmotionError, match="contempt"):
        space_of({name: p for name, p in priors.items() if name != "contempt"})


# There and back


def test_prior(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    for sigma in (0.1, None):
        save_emotion(SavedEmotion(prior(sigma=sigma), SPACE, "my webcam", "CC0"), path)
        saved = load_emotion(path, SPACE)
        assert isinstance(saved.emotion, EmotionPrior) and saved.emotion.name == "mine"
        assert torch.equal(saved.emotion.mu, MU)
        assert saved.emotion.sigma is None if sigma is None else torch.equal(saved.emotion.sigma, prior().sigma)
        assert (saved.space, saved.source, saved.licence) == (SPACE, "my webcam", "CC0")
        assert saved.track.is_constant
    assert [file.name for file in tmp_path.iterdir()] == ["mine.safetensors"]


def test_track(tmp_path: Path) -> None:
    path = tmp_path / "track.safetensors"
    save_emotion(SavedEmotion(TRACK, SPACE), path)
    track = load_emotion(path, SPACE).emotion
    assert [(k.seconds, k.easing) for k in track.keyframes] == [(k.seconds, k.easing) for k in TRACK.keyframes]
    for moment in (0, 0.2, 1 / 3, 5, 9):
        for got, expected in zip(track.at([moment]), TRACK.at([moment]), strict=True):
            assert torch.equal(got, expected)
    partly = EmotionTrack((Keyframe(0, prior()), Keyframe(1, prior(sigma=None))))
    save_emotion(SavedEmotion(partly, SPACE), path)
    assert load_emotion(path, SPACE).track.at([0]).sigma is None


def test_stored_files_stay_readable() -> None:
    """Written by version 1 of the format."""
    saved = load_emotion(HERE / "data" / "emotion_prior.safetensors", SPACE)
    assert saved.source == "a ramp" and torch.equal(saved.emotion.mu, MU) and float(saved.emotion.sigma[0]) == 0.5
    saved = load_emotion(HERE / "data" / "emotion_track.safetensors", SPACE)
    assert [(k.seconds, k.easing) for k in saved.track.keyframes] == [(0.5, "smooth"), (2.0, "linear")]
    torch.testing.assert_close(saved.track.at([1.25]).mu[0], 1.5 * MU)


# Another space


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_emotion(SavedEmotion(prior(), SPACE), path)
    with pytest.raises(
        EmotionError, match=r"mine\.safetensors belongs to another model: .*'abababababab'.*cdcdcdcdcdcd"
    ):
        load_emotion(path, "cd" * 32)
    assert load_emotion(path, None).space == SPACE


# What is refused


def meta(**changes: str) -> dict[str, str]:
    return {"format": "dicetalk.emotion", "version": "1", "kind": "prior", "space": SPACE} | changes


ROWS = {"mu": torch.zeros(2, 256), "seconds": torch.tensor([0.0, 1.0]).double(), "easing": torch.zeros(2).byte()}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"mu": torch.zeros(1, 256)}, None, "format"),
        ({"mu": torch.zeros(1, 256)}, meta(format="dicetalk.prior"), "format"),
        ({"mu": torch.zeros(1, 256)}, meta(version="2"), "'2'.*version 1"),
        ({"mu": torch.zeros(1, 255)}, meta(), r"\[1, 255\]; expected F32 \[1, 256\]"),
        ({"mu": torch.zeros(2, 256)}, meta(), "2 rows; expected 1"),
        ({"mu": torch.zeros(())}, meta(), "0 rows"),
        ({"mu": torch.zeros(1, 256).double()}, meta(), "F64"),
        ({"mu": torch.full((1, 256), torch.nan)}, meta(), "NaN"),
        ({"mu": torch.zeros(1, 256), "sigma": -torch.ones(1, 256)}, meta(), "negative"),
        ({"mean": torch.zeros(1, 256)}, meta(), "mean"),
        ({"mu": torch.zeros(1, 256), "more": torch.zeros(1)}, meta(), "more"),
        (ROWS, meta(), "easing"),
        (
            ROWS | {"seconds": torch.tensor([1.0, 0.0]).double()},
            meta(kind="track", easings="linear"),
            "0 s follows 1 s",
        ),
        (ROWS | {"seconds": torch.tensor([0.0, torch.nan]).double()}, meta(kind="track", easings="linear"), "nan"),
        (ROWS | {"seconds": torch.zeros(3).double()}, meta(kind="track", easings="linear"), r"\[3\]"),
        (ROWS | {"easing": torch.tensor([0, 200]).byte()}, meta(kind="track", easings="linear"), "counts to 200"),
        (ROWS, meta(kind="track", easings="bounce"), "'bounce'"),
        (ROWS, meta(kind="track"), "''"),
    ],
)
def test_files_that_are_no_emotion(tmp_path: Path, tensors: dict, metadata: dict | None, message: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(EmotionError, match=rf"x\.safetensors.*{message}") as caught:
        load_emotion(path, SPACE)
    assert len(str(caught.value)) < 400


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_emotion(SavedEmotion(TRACK, SPACE), path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:20], b"\xff" * 64, b"<html>", whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(EmotionError, match=r"x[.]safetensors"):
            load_emotion(path, SPACE)
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(EmotionError, match="larger than 256 MB"):
        load_emotion(path, SPACE)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(EmotionError, match="cannot be read"):
            load_emotion(missing, SPACE)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="none does not exist"):
        save_emotion(SavedEmotion(prior(), SPACE), tmp_path / "none" / "x.safetensors")
    with pytest.raises(EmotionError, match=r"x\.bin.*\.safetensors"):
        save_emotion(SavedEmotion(prior(), SPACE), tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []


# .npy


def test_npy(tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"
    rows = np.stack([MU.numpy(), 2 * MU.numpy(), 3 * MU.numpy()])
    np.save(path, rows[0])
    saved = import_npy(path, SPACE)
    assert torch.equal(saved.emotion.mu, MU) and saved.space == SPACE and saved.emotion.name == "mine"
    for array in (rows, np.asfortranarray(rows), rows.astype(np.float64)):
        np.save(path, array)
        track = import_npy(path, SPACE, fps=2).emotion
        assert [k.seconds for k in track.keyframes] == [0, 0.5, 1]
        torch.testing.assert_close(track.at([0, 0.5, 1]).mu, torch.from_numpy(rows))
    np.save(path, {"mu": rows[:1]})
    assert torch.equal(import_npy(path, SPACE).emotion.mu, MU)
    np.save(path, {"mu": np.asfortranarray(rows)})
    assert torch.equal(import_npy(path, SPACE).track.at([0.08]).mu[0], 2 * MU), "columns of the file are not rows"


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """The bytes of file names are anything; Python holds what is no UTF-8 as lone surrogates."""
    named = SavedEmotion(EmotionPrior(MU, name="clip\udcff"), SPACE, "\udcffme", "CC\udc80")
    save_emotion(named, tmp_path / "x.safetensors")
    read = load_emotion(tmp_path / "x.safetensors", SPACE)
    assert (read.emotion.name, read.source, read.licence) == ("clip?", "?me", "CC?")


def test_npy_that_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"

    def npy(value: object) -> bytes:
        file = io.BytesIO()
        np.save(file, value, allow_pickle=True)
        return file.getvalue()

    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 256), }\n"
    lying = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + MU.numpy().tobytes()
    for content, message in (
        (npy(np.zeros((3, 255), np.float32)), r"\(3, 255\); expected \(256,\)"),
        (npy(np.zeros((0, 256), np.float32)), r"\(0, 256\)"),
        (npy(np.full((2, 256), np.nan)), "NaN"),
        (npy(np.array([print, len], dtype=object)), "no prior needs"),
        (lying, "cannot have 1024 bytes"),
        (b"", "mine"),
    ):
        path.write_bytes(content)
        with pytest.raises(EmotionError, match=message):
            import_npy(path, SPACE)
    with pytest.raises(EmotionError, match="cannot be read"):
        import_npy(tmp_path / "none.npy", SPACE)
    np.save(path, np.zeros((2, 256), np.float32))
    with pytest.raises(EmotionError, match="fps"):
        import_npy(path, SPACE, fps=0)
