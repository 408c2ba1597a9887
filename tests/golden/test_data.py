"""The slim copy in `data`: a stage that is missing there would only be skipped."""

from pathlib import Path

from golden_fixtures import Golden

DATA = Path(__file__).parent / "data"


def test_every_stage_is_there_in_at_most_15_megabytes() -> None:
    golden = Golden(DATA)
    assert [name for name in golden.manifest["files"] if not (DATA / name).is_file()] == []
    assert [name for name in golden.json("keys/index.json") if not (DATA / "keys" / name).is_file()] == []
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 15_000_000


def test_every_tensor_of_a_stage_is_there() -> None:
    golden = Golden(DATA)
    for name, entry in golden.manifest["files"].items():
        if name.endswith(".safetensors"):
            stored = golden.file(name).tensors
            for kind in ("in", "out"):
                assert set(entry["tensors"].get(kind, {})) <= set(stored), name
