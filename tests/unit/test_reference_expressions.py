"""The network that reads expression coefficients off drawn faces: its training, its file, its use."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dicetalk.checkpoints.single import load_expression_reader, save_expression_reader
from dicetalk.drawn.faces.expression import ACTION_UNITS
from dicetalk.drawn.train.expression_reader import (
    DrawnFaces,
    correlations,
    draw_faces,
    seen_box,
    train_expression_reader,
)
from dicetalk.emotion.reference.expressions import ExpressionReader, ExpressionReaderConfig, ReadExpressions, crop_of
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.train.initial import seeded

SMALL = ExpressionReaderConfig(size=32, channels=8, max_channels=32, hidden_dim=64)


@pytest.fixture(scope="module")
def faces() -> DrawnFaces:
    return draw_faces("train", 800, 0, crop_of(SMALL))


def test_drawn_faces_show_everything(faces: DrawnFaces) -> None:
    assert faces.crops.shape == (800, 32, 32, 3) and faces.crops.dtype == np.uint8
    assert faces.coefficients.shape == (800, len(ACTION_UNITS)) and faces.coefficients.dtype == np.float32
    assert (faces.coefficients.std(axis=0) > 0.08).all()
    again = draw_faces("train", 16, 0, crop_of(SMALL))
    assert np.array_equal(again.crops, faces.crops[:16]) and np.array_equal(again.coefficients, faces.coefficients[:16])


def test_a_box_is_seen_as_a_detector_would() -> None:
    rng = np.random.default_rng(0)
    boxes = [seen_box(np.array([10.0, 20, 50, 60]), rng) for _ in range(500)]
    middles = np.array([(box.x + box.width / 2, box.y + box.height / 2, box.width, box.height) for box in boxes])
    assert middles.mean(axis=0) == pytest.approx([35, 50 + 0.041 * 60, 50 * 0.995, 60 * 0.894], rel=0.01)


def test_training_learns_what_is_seen_and_equal_seeds_give_equal_readers(faces: DrawnFaces) -> None:
    state = torch.get_rng_state()
    reader = train_expression_reader(faces, SMALL, 60, seed=1)
    assert torch.equal(torch.get_rng_state(), state) and not reader.training
    strangers = draw_faces("test", 160, 1, crop_of(SMALL))
    found = correlations(reader, strangers)
    guessed = correlations(seeded(lambda: ExpressionReader(SMALL), 0).eval(), strangers)
    assert list(found) == list(ACTION_UNITS)
    # Seconds of training show strangers' mouths, and a little of the rest; five minutes show it all.
    assert found["jaw_open"] > 0.6 > abs(guessed["jaw_open"])
    assert np.mean(list(found.values())) > 0.12 > abs(np.mean(list(guessed.values())))
    one, same = (train_expression_reader(faces, SMALL, 1, seed=2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


def test_the_file_is_half_as_large_and_reads_the_same(tmp_path: Path) -> None:
    reader = ExpressionReader(SMALL).eval()
    save_expression_reader(reader, tmp_path / "r.safetensors")
    assert (tmp_path / "r.safetensors").stat().st_size < 2 * sum(p.numel() for p in reader.parameters()) + 4096
    read = load_expression_reader(tmp_path / "r.safetensors")
    assert read.config == SMALL and not read.training
    crops = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), np.uint8)
    found, expected = ReadExpressions(read)(crops), ReadExpressions(reader)(crops)
    assert found.shape == (70, 17) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 5e-3
    data = (tmp_path / "r.safetensors").read_bytes()
    for damage, named in (
        (data[:-3], "cut off"),
        (data.replace(b'\\"size\\": 32', b'\\"size\\": 33'), "damaged config"),
        (data.replace(b"dicetalk.expression_reader", b"dicetalk.expression_rweder"), "no dicetalk.expression_reader"),
    ):
        assert damage != data
        (tmp_path / "r.safetensors").write_bytes(damage)
        with pytest.raises(CheckpointError, match=named):
            load_expression_reader(tmp_path / "r.safetensors")


@pytest.mark.parametrize("change", [{"size": 30}, {"size": 8}, {"size": 4}, {"channels": 6}, {"max_channels": 12}])
def test_sizes_that_cannot_be(change: dict[str, int]) -> None:
    with pytest.raises(SettingError):
        ExpressionReaderConfig(**change)


def test_the_default_is_small() -> None:
    reader = ExpressionReader(ExpressionReaderConfig())
    assert sum(p.numel() for p in reader.parameters()) * 2 < 1e6
