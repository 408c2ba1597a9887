"""Shards: what is written comes back, a kill loses nothing, and no file is believed."""

import contextlib
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dicetalk.audio.features import frame_windows
from dicetalk.errors import Cancelled, OutputError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.train import shards
from dicetalk.train.clip_record import ClipLabels, DatasetError
from dicetalk.train.shards import ShardWriter, list_clips, read_clip, splits

LABELS = ClipLabels("anna", "happy", 0.6, "video-1", "train")


def tensors(frames: int = 6, seed: int = 0, height: int = 8, width: int = 7) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "frames": torch.randint(0, 256, (frames, height, width, 3), generator=rng, dtype=torch.uint8),
        "whisper": torch.randn(4 * frames + 12, 2, 3, generator=rng).half(),
        "box": torch.rand(4, generator=rng),
        "coefficients": torch.randn(frames, 5, generator=rng).half(),
        "mouth": torch.rand(frames, generator=rng).half(),
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(one[k].dtype == other[k].dtype and one[k].equal(other[k]) for k in one)


def fill(folder: Path, count: int, per_shard: int = 2, first: int = 0) -> None:
    with ShardWriter(folder, per_shard) as writer:
        for number in range(first, first + count):
            writer.add(f"clip-{number}", LABELS, tensors(5 + number, number))


def notices(folder: Path) -> tuple[list, list[str]]:
    said: list[str] = []
    return list_clips(folder, hooks=Hooks(notice=said.append)), said


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    ordinary = ClipLabels("Ève O'Hara", None, None, "talk.mp4", "test")
    without = {k: v for k, v in tensors(3, 9).items() if k not in ("mouth", "coefficients")}
    with ShardWriter(tmp_path / "new" / "folder", 2) as writer:
        for number in range(4):
            writer.add(f"c.{number}", LABELS, tensors(4 + number, number))
        writer.add("last", ordinary, without)
        assert writer.ids == {"c.0", "c.1", "c.2", "c.3", "last"}
    records = list_clips(tmp_path / "new" / "folder")
    assert [(r.id, r.frames, r.path.name) for r in records] == [
        ("c.0", 4, "shard-00000.safetensors"),
        ("c.1", 5, "shard-00000.safetensors"),
        ("c.2", 6, "shard-00001.safetensors"),
        ("c.3", 7, "shard-00001.safetensors"),
        ("last", 3, "shard-00002.safetensors"),
    ]
    assert [r.labels for r in records] == [LABELS] * 4 + [ordinary]
    for number, record in enumerate(records[:4]):
        assert same(read_clip(record), tensors(4 + number, number))
    assert same(read_clip(records[4]), without)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        f"shard-0000{i}.safetensors" for i in range(3)
    ]
    parts = splits(records)
    assert {name: [r.id for r in part] for name, part in parts.items()} == {
        "train": ["c.0", "c.1", "c.2", "c.3"],
        "val": [],
        "test": ["last"],
    }


@given(st.integers(1, 12), st.data())
@settings(max_examples=30, deadline=None)
def test_any_part_of_a_clip(tmp_path_factory: pytest.TempPathFactory, frames: int, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("part")
    whole = tensors(frames, frames)
    with ShardWriter(folder) as writer:
        writer.add("clip", LABELS, whole)
    start = data.draw(st.integers(0, frames - 1))
    stop = data.draw(st.integers(start + 1, frames))
    (record,) = list_clips(folder)
    part = read_clip(record, start=start, stop=stop)
    for name in ("frames", "coefficients", "mouth"):
        assert part[name].equal(whole[name][start:stop])
    assert part["box"].equal(whole["box"])
    assert frame_windows(part["whisper"]).equal(frame_windows(whole["whisper"])[start:stop])
    rest = read_clip(record, ["whisper"], start=start)
    assert list(rest) == ["whisper"] and rest["whisper"].equal(whole["whisper"][4 * start :])


def test_a_window_outside_and_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add("clip", LABELS, {k: v for k, v in tensors().items() if k != "mouth"})
    (record,) = list_clips(tmp_path)
    for start, stop in ((0, 7), (-1, 3), (3, 3), (4, 2), (6, None)):
        with pytest.raises(SettingError, match="has 6 frames"):
            read_clip(record, start=start, stop=stop)
    with pytest.raises(DatasetError, match="has no mouth, only"):
        read_clip(record, ["mouth"])
    with pytest.raises(DatasetError, match="List"):
        read_clip(replace(record, shapes={**record.shapes, "box": (5,)}))
    record.path.unlink()
    with pytest.raises(DatasetError, match="shard-00000"):
        read_clip(record)


@pytest.mark.parametrize("wrong", ["type", "shape", "steps", "missing", "unknown", "frames", "empty", "name", "twice"])
def test_a_writer_refuses(tmp_path: Path, wrong: str) -> None:
    clip, name = tensors(), "clip"
    if wrong == "type":
        clip["frames"] = clip["frames"].float()
    elif wrong == "shape":
        clip["frames"] = clip["frames"][..., :2]
    elif wrong == "steps":
        clip["whisper"] = clip["whisper"][: 4 * 5 + 9]
    elif wrong == "missing":
        del clip["box"]
    elif wrong == "unknown":
        clip["extra"] = clip["box"]
    elif wrong == "frames":
        clip["mouth"] = clip["mouth"][:-1]
    elif wrong == "empty":
        clip["coefficients"] = clip["coefficients"][:, :0]
    elif wrong == "name":
        name = "../clip"
    else:
        name = "good"
    with ShardWriter(tmp_path) as writer:
        writer.add("good", LABELS, tensors())
        with pytest.raises(DatasetError):
            writer.add(name, LABELS, clip)
        assert writer.ids == {"good"}
        writer.add("clip", LABELS, tensors(3))  # the name is free again
    assert [r.id for r in list_clips(tmp_path)] == ["good", "clip"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("emotion", "joyful"),
        ("intensity", 1.5),
        ("intensity", float("nan")),
        ("intensity", True),
        ("identity", ""),
        ("identity", 7),
        ("video", "a\nb"),
        ("video", "x" * 201),
        ("split", "training"),
    ],
)
def test_labels_are_checked(field: str, value: object) -> None:
    with pytest.raises(DatasetError, match=field):
        replace(LABELS, **{field: value})


def test_a_crash_loses_no_finished_clip_and_changes_nothing(tmp_path: Path) -> None:
    one_go, broken = tmp_path / "one", tmp_path / "broken"
    fill(one_go, 7, 3)
    for first, last in ((0, 2), (2, 5), (5, 7)):
        try:
            with ShardWriter(broken, 3) as writer:
                assert writer.ids == {f"clip-{n}" for n in range(first)}
                for number in range(first, last):
                    writer.add(f"clip-{number}", LABELS, tensors(5 + number, number))
                if last < 7:
                    raise Cancelled
        except Cancelled:
            pass
    assert sorted(os.listdir(broken)) == sorted(os.listdir(one_go))
    for path in one_go.iterdir():
        assert path.read_bytes() == (broken / path.name).read_bytes()


def test_a_kill_at_any_write_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing is stopped before and after each file takes its place, then leftovers of a hard kill are added."""
    real = shards._write
    for dies_at in range(1, 8):
        folder = tmp_path / str(dies_at)
        calls = iter(range(1, 100))

        def dying(path, records, tensor, calls=calls, dies_at=dies_at):
            number = next(calls)
            if number == dies_at and number % 2:
                raise KeyboardInterrupt
            real(path, records, tensor)
            if number == dies_at:
                raise KeyboardInterrupt

        monkeypatch.setattr(shards, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            fill(folder, 5)
        monkeypatch.setattr(shards, "_write", real)
        for place in (folder, folder / "pending"):
            (place / ".dicetalk-00000000.part").write_bytes(b"half")
            (place / ".dicetalk-00000000.lock").write_bytes(b"")
        with ShardWriter(folder, 2) as writer:
            for number in range(5):
                if f"clip-{number}" not in writer.ids:
                    writer.add(f"clip-{number}", LABELS, tensors(5 + number, number))
        records, said = notices(folder)
        assert [r.id for r in records] == [f"clip-{n}" for n in range(5)] and not said
        assert all(same(read_clip(r), tensors(5 + n, n)) for n, r in enumerate(records))
        assert not (folder / "pending").exists() and not list(folder.glob(".dicetalk-*"))


def test_a_damaged_leftover_is_made_again(tmp_path: Path) -> None:
    ShardWriter(tmp_path, 5).add("clip", LABELS, tensors())  # and never closed
    (path,) = (tmp_path / "pending").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    said: list[str] = []
    with ShardWriter(tmp_path, 5, hooks=Hooks(notice=said.append)) as writer:
        assert not writer.ids
        writer.add("clip", LABELS, tensors())
    assert len(said) == 1 and path.name in said[0]
    assert same(read_clip(list_clips(tmp_path)[0]), tensors())


def test_numbers_follow_the_shards_that_are_there(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    os.rename(tmp_path / "shard-00001.safetensors", tmp_path / "shard-123456.safetensors")
    fill(tmp_path, 1, first=3)
    assert [(r.id, r.path.name) for r in list_clips(tmp_path)] == [
        ("clip-0", "shard-00000.safetensors"),
        ("clip-1", "shard-00000.safetensors"),
        ("clip-2", "shard-123456.safetensors"),
        ("clip-3", "shard-123457.safetensors"),
    ]


def test_several_threads(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 3) as writer:
        threads = [
            threading.Thread(
                target=lambda k=k: [writer.add(f"{k}-{n}", LABELS, tensors(2 + n, 10 * k + n)) for n in range(4)]
            )
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = list_clips(tmp_path)
    assert {r.id for r in records} == {f"{k}-{n}" for k in range(4) for n in range(4)} and len(records) == 16
    for record in records:
        k, n = map(int, record.id.split("-"))
        assert same(read_clip(record), tensors(2 + n, 10 * k + n))


def test_a_folder_without_clips(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatasetError, match="dicetalk prepare"):
            list_clips(folder)
    with pytest.raises(SettingError, match="clips_per_shard"):
        ShardWriter(tmp_path, 0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        ShardWriter(tmp_path / "file")


def reheader(path: Path, change) -> None:
    """Save a shard again, with its metadata and tensors changed."""
    content = load_file(path)
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    clips = json.loads(metadata["clips"])
    change(metadata, clips, content)
    if isinstance(metadata.get("clips"), str) and metadata["clips"] != "[" * 100_000:
        metadata["clips"] = json.dumps(clips)
    save_file(content, path, metadata)


DAMAGES = {
    "format": lambda m, c, t: m.update(format="dicetalk.prior"),
    "version": lambda m, c, t: m.update(version="2"),
    "no metadata": lambda m, c, t: m.clear(),
    "deep JSON": lambda m, c, t: m.update(clips="[" * 100_000),
    "no table": lambda m, c, t: (c.clear(), c.update({"clip-2": 3})),
    "emotion": lambda m, c, t: c["clip-2"].update(emotion="__import__"),
    "unknown label": lambda m, c, t: c["clip-2"].update(secret=1),
    "label gone": lambda m, c, t: c["clip-2"].pop("identity"),
    "fps": lambda m, c, t: c["clip-2"].update(fps=25),
    "frames": lambda m, c, t: c["clip-2"].update(frames=8),
    "clip without tensors": lambda m, c, t: c.update(ghost=dict(c["clip-2"])),
    "tensors without clip": lambda m, c, t: c.pop("clip-2"),
    "shape": lambda m, c, t: t.update({"clip-2/mouth": t["clip-2/mouth"][1:].clone()}),
    "type": lambda m, c, t: t.update({"clip-2/box": t["clip-2/box"].half()}),
    "unknown tensor": lambda m, c, t: t.update({"clip-2/evil": torch.zeros(3)}),
    "short whisper": lambda m, c, t: t.update({"clip-2/whisper": t["clip-2/whisper"][:20].clone()}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_reported_and_left_out(tmp_path: Path, damage: str) -> None:
    fill(tmp_path, 6)
    path = tmp_path / "shard-00001.safetensors"
    reheader(path, DAMAGES[damage])
    records, said = notices(tmp_path)
    assert [r.id for r in records] == ["clip-0", "clip-1", "clip-4", "clip-5"]
    assert len(said) == 1 and str(path) in said[0]


def test_other_files_and_a_second_clip_of_one_name(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "model.safetensors").write_bytes(b"other")
    (tmp_path / "shard-00007.safetensors").write_bytes((tmp_path / "shard-00000.safetensors").read_bytes())
    records, said = notices(tmp_path)
    assert [r.id for r in records] == [f"clip-{n}" for n in range(4)]
    assert len(said) == 2 and "clip-0" in said[0] and "clip-1" in said[1]


@pytest.mark.parametrize("name", ["box", "coefficients", "mouth", "whisper"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, name: str, wrong: float) -> None:
    clip = tensors()
    clip[name].view(-1)[-1] = wrong
    with ShardWriter(tmp_path) as writer:
        with pytest.raises(DatasetError, match=rf"{name} of clip clip holds NaN or infinite"):
            writer.add("clip", LABELS, clip)
        writer.add("clip", LABELS, tensors())
    path = tmp_path / "shard-00000.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {f"clip/{name}": clip[name]}, path, metadata)
    (record,) = list_clips(tmp_path)
    with pytest.raises(DatasetError, match=rf"{name} of clip clip in .*shard-00000.*NaN or infinite"):
        read_clip(record)
    rest = [other for other in record.shapes if other != name]
    assert list(read_clip(record, rest)) == rest


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_are_fatal(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut off, overwritten or made up: the shard is whole, or left out with a notice; never anything else."""
    folder = tmp_path_factory.mktemp("bytes")
    fill(folder, 3)
    path = folder / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "overwrite", "random", "length"]))
    if kind == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif kind == "overwrite":
        at = data.draw(st.integers(0, 2000))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    elif kind == "random":
        content = data.draw(st.binary(max_size=300))
    else:
        content[:8] = data.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
    path.write_bytes(content)
    records, said = notices(folder)
    assert [r.id for r in records[:2]] == ["clip-0", "clip-1"]
    assert len(records) + len(said) == 3
    for record in records[2:]:
        with contextlib.suppress(DatasetError):  # the bytes were those of a number
            read_clip(record)


def test_a_long_header_is_not_parsed(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    text = b'{"a":"' + b" " * shards.MAX_HEADER_BYTES + b'"}'
    (tmp_path / "shard-00001.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    _, said = notices(tmp_path)
    assert len(said) == 1 and f"header of {len(text)} bytes" in said[0]


def test_listing_can_be_stopped(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with pytest.raises(Cancelled):
        list_clips(tmp_path, hooks=Hooks(cancelled=lambda: True))
