"""Procedural clips in shards."""

import shutil
from pathlib import Path

import pytest
import torch
from small_films import listen

from dicetalk.drawn.clips import CHANGING_TAKES
from dicetalk.drawn.shards import DrawnMaker, plan_sources, take_sources
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.train.clip_record import DatasetError
from dicetalk.train.prepare.run import prepare_shards
from dicetalk.train.shards import list_clips, read_clip

spoken = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@spoken
def test_drawn_clips(tmp_path: Path) -> None:
    sources = plan_sources("test", 2, seed=5)
    assert sources == plan_sources("test", 3, seed=5)[:2]
    prepare_shards(sources, tmp_path, DrawnMaker(listen, 64))
    for record, plan in zip(list_clips(tmp_path), (s.plan for s in sources), strict=True):
        labels, clip = record.labels, read_clip(record)
        assert (labels.split, labels.emotion, labels.intensity) == ("test", plan.emotion, plan.intensity)
        assert labels.identity == f"drawn-{plan.identity_seed}"
        assert clip["frames"].shape == (record.frames, 64, 64, 3) and clip["coefficients"].shape == (record.frames, 17)
        assert clip["mouth"].min() >= 0 and clip["mouth"].max() <= 1
        x, y, width, height = clip["box"].tolist()
        assert x >= 0 and y >= 0 and x + width <= 64 and y + height <= 64 and min(width, height) > 16
    assert prepare_shards(sources, tmp_path, DrawnMaker(listen, 64)).made == 0


@spoken
def test_takes_tell_what_each_frame_shows_where_it_changes(tmp_path: Path) -> None:
    sources = take_sources("train", 1)[-1 - CHANGING_TAKES :]
    prepare_shards(sources, tmp_path, DrawnMaker(listen, 32))
    steady, *passing = list_clips(tmp_path)
    assert "mix" not in steady.shapes and steady.labels.emotion == sources[0].plan.emotion
    for record, source in zip(passing, sources[1:], strict=True):
        assert (record.labels.emotion, record.labels.intensity) == (None, None)
        mix = read_clip(record, ["mix"], start=2, stop=6)["mix"]
        whole = read_clip(record, ["mix"])["mix"]
        assert mix.shape == (4, 8) and torch.equal(mix, whole[2:6])
        torch.testing.assert_close(whole.float().sum(dim=1), torch.ones(record.frames), rtol=0, atol=2e-3)
        asked = [PRESET_NAMES.index(source.plan.emotion), PRESET_NAMES.index(source.plan.then[0])]
        assert set(whole.float().gt(1e-3).any(dim=0).nonzero().flatten().tolist()) <= {0, *asked}
        assert whole[0, asked[0]] > whole[-1, asked[0]] and whole[0, asked[1]] < whole[-1, asked[1]]


def test_plans_are_checked() -> None:
    with pytest.raises(DatasetError, match="train or test"):
        plan_sources("val", 3)
    with pytest.raises(SettingError, match="0"):
        plan_sources("train", 0)
