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


def test_the_own_set_has_what_other_sets_may_lack() -> None:
    """Tests skip what is not recorded; of the own set nothing that decides may go missing."""
    golden = Golden(DATA)
    assert golden.foreign is None
    released = {"audio_linear.pth", "emo_model.pth", "flownet.pkl", "pose_guider.pth", "unet.pth", "vae"}
    assert {name.removesuffix(".keys.json") for name in golden.json("keys/index.json")} == released
    loop = golden.file("pipeline_loop.safetensors")
    assert any(
        case["g1"][0] != case["g1"][1] and case["g2"][0] != case["g2"][1] and case.get("strength", 1) < 1
        for name, case in loop.cases.items()
        if len(loop.inputs_of(name)["emotion"]) > 1
    ), "a case in which everything changes over time"
    assert any("gen" in case for case in loop.cases.values()), "a case whose noise is drawn"
