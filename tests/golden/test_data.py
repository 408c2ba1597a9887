"""The slim copies: a stage that is missing there would only be skipped."""

from pathlib import Path

import pytest
from golden_fixtures import OWN, Golden

DATA, SONIC = OWN


@pytest.mark.parametrize(("folder", "most"), [(DATA, 15_000_000), (SONIC, 4_000_000)], ids=["DICE-Talk", "Sonic"])
def test_every_stage_is_there_in_few_megabytes(folder: Path, most: int) -> None:
    golden = Golden(folder)
    assert [name for name in golden.manifest["files"] if not (folder / name).is_file()] == []
    assert [name for name in golden.json("keys/index.json") if not (folder / "keys" / name).is_file()] == []
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= most


@pytest.mark.parametrize("folder", OWN, ids=["DICE-Talk", "Sonic"])
def test_every_tensor_of_a_stage_is_there(folder: Path) -> None:
    golden = Golden(folder)
    for name, entry in golden.manifest["files"].items():
        if name.endswith(".safetensors"):
            stored = golden.file(name).tensors
            for kind in ("in", "out"):
                assert set(entry["tensors"].get(kind, {})) <= set(stored), name


def test_the_own_sets_have_what_other_sets_may_lack() -> None:
    """Tests skip what is not recorded; of the own sets nothing that decides may go missing."""
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


def test_the_own_sonic_set_has_what_decides() -> None:
    golden = Golden(SONIC)
    assert (golden.program, golden.foreign) == ("Sonic", None)
    loop = golden.file("sonic_pipeline_loop.safetensors")
    assert any(case["N"] > case["fpb"] for case in loop.cases.values()), "a clip longer than a window"
    repeated = [name for name, case in loop.cases.items() if any(len(set(w)) < len(w) for _, _, w in case["windows"])]
    assert {"added_time_ids", "latents"} <= {out.partition("/")[2] for out in loop.output_names(f"{repeated[0]}/")}
    assert any(case["scale"] != 1 for case in loop.cases.values())
    assert "half/added_time_ids" in golden.file("sonic_audio2bucket.safetensors").output_names()
    assert any(row["result"] != "ok" for row in golden.file("sonic_audio_windows.safetensors").entry["short_clips"])
