"""The released face detector: resizing, decoding, suppression, rescaling, on recorded predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fixtures import Golden, GoldenFile

from dicetalk.portrait.detector import YoloFace, cell_grids, input_size, network_input, suppress
from dicetalk.portrait.faces import FaceBox, choose_face

FILE = "detector.safetensors"


class Recorded(torch.nn.Module):
    """Stands for the network: returns recorded predictions."""

    def __init__(self, predictions: torch.Tensor):
        super().__init__()
        self.register_buffer("predictions", predictions)

    def forward(self, pixels: torch.Tensor, grids: list[torch.Tensor]) -> torch.Tensor:
        return self.predictions


@pytest.fixture
def fixtures(golden: Golden) -> GoldenFile:
    return golden.file(FILE)


def names_of(fixtures: GoldenFile, end: str) -> list[str]:
    return [name.removeprefix("in/").removesuffix(end) for name in fixtures.tensors if name.endswith(end)]


def picture_of(fixtures: GoldenFile, name: str) -> np.ndarray:
    return np.ascontiguousarray(fixtures.tensors[f"in/{name}/image_bgr_u8"].numpy()[..., ::-1])


def test_network_input_has_the_released_size_and_pixels(fixtures: GoldenFile) -> None:
    names = names_of(fixtures, "/image_bgr_u8")
    assert names
    for name in names:
        pixels = torch.from_numpy(network_input(picture_of(fixtures, name)))
        assert pixels.dtype == torch.float32
        for output in fixtures.output_names(f"{name}/model_input_u8_stride"):
            stride = int(output.rpartition("stride")[2])
            fixtures.check(output, (pixels * 255).round().to(torch.uint8)[..., ::stride, ::stride])


def test_input_sizes(golden: Golden) -> None:
    table = golden.json("detector.json")["input_size"]
    assert table
    for row in table:
        assert input_size(row["h"], row["w"]) == (row["h1"], row["w1"]), row


def test_cell_grids(golden: Golden, fixtures: GoldenFile) -> None:
    for name, case in golden.json("detector.json")["cases"].items():
        grids = cell_grids(case["h1"], case["w1"])
        assert [list(grid.shape) for grid in grids] == case["grids"]
        if f"{name}/grid8_corner" in fixtures.output_names():
            fixtures.check(f"{name}/grid8_corner", grids[0][0, 0, -1, -1])


def test_suppression(golden: Golden, fixtures: GoldenFile) -> None:
    config = fixtures.entry["config"]
    cases = golden.json("detector.json")["cases"]
    names = names_of(fixtures, "/pred")
    assert names
    for name in names:
        predictions = fixtures.tensors[f"in/{name}/pred"][0].numpy()
        rows = suppress(predictions, config["confThreshold"], config["nmsThreshold"])
        stored = fixtures.tensors[f"out/{name}/nms"]
        assert (stored[:, 15] == 0).all()  # the class, of which there is one
        fixtures.check(f"{name}/nms", torch.from_numpy(rows), stored[:, :15])
        if "kept" in cases.get(name, {}):
            assert len(rows) == cases[name]["kept"]


def test_faces_in_source_pixels(golden: Golden, fixtures: GoldenFile, tmp_path: Path) -> None:
    for name, case in golden.json("detector.json")["cases"].items():
        torch.jit.script(Recorded(fixtures.tensors[f"in/{name}/pred"])).save(tmp_path / "yoloface.pt")
        faces = YoloFace(tmp_path / "yoloface.pt").detect(picture_of(fixtures, name))
        assert [face.area for face in faces] == pytest.approx(sorted(case["areas"], reverse=True), rel=1e-5)
        if "largest_index" in case and f"{name}/bboxes_xywh" in fixtures.output_names():
            largest = fixtures.tensors[f"out/{name}/bboxes_xywh"][case["largest_index"]]
            assert choose_face(faces).x == pytest.approx(largest[0].item(), abs=2e-4)

        by_score = sorted(faces, key=lambda face: face.score, reverse=True)
        boxes = [(face.x, face.y, face.width, face.height) for face in by_score]
        made = {"bboxes_xywh": boxes, "keypoints": [face.landmarks for face in by_score]}
        made |= {"scores": [face.score for face in by_score]}
        fixtures.check_recorded({f"{name}/{what}": torch.tensor(v, dtype=torch.float64) for what, v in made.items()})


def test_the_really_largest_face_is_chosen(golden: Golden) -> None:
    """Where the released loop takes a smaller face, we do not; where it takes the largest, so do we."""
    agreed = 0
    for row in golden.json("detector.json")["maxface"]:
        faces = [FaceBox(position, 0, area, 1) for position, area in enumerate(row["areas"])]
        if faces:
            chosen = choose_face(faces)
            assert chosen.area == max(row["areas"])
            agreed += [chosen.x] == row["chosen"]
    assert agreed
