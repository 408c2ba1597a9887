"""The released weights from the public listing to a video: download, doctor, generate, convert on the command line."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub, point_clients_at, published, serving
from small_models import SMALL_MODEL

from dicetalk.checkpoints import files, sources
from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.doctor import inspect_model
from dicetalk.checkpoints.download import download_model
from dicetalk.checkpoints.load import load_model
from dicetalk.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
FAST = ["--steps", "2", "--window", "8", "--short-side", "64", "--device", "cpu", "--dtype", "fp32", "--quiet"]
FAST += ["--duration", "0.4", "--no-interpolation"]


class ReadsFiles(torch.nn.Module):
    """A detector whose program is refused."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + torch.from_file("x", False, 0, dtype=torch.float32).sum()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeHub:
    return published(tmp_path_factory.mktemp("published"), SMALL_MODEL)


@pytest.fixture
def hub(made: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The public listing at the sizes of a small model, which the commands expect as well."""
    for place, function in (
        ("dicetalk.cli.models.download_model", download_model),
        ("dicetalk.cli.models.inspect_model", inspect_model),
        ("dicetalk.cli.models.convert_model", convert_model),
        ("dicetalk.talk.load_model", load_model),
    ):
        monkeypatch.setattr(place, partial(function, config=SMALL_MODEL))
    copy = FakeHub({key: dict(content) for key, content in made.content.items()})
    with serving(copy):
        point_clients_at(copy, monkeypatch)
        yield copy


def generate(models: Path, out: Path) -> int:
    given = ["--image", str(EXAMPLES / "portrait.jpg"), "--audio", str(EXAMPLES / "speech.wav")]
    return main(["generate", "--models", str(models), *given, "--out", str(out), *FAST])


def test_from_the_listing_to_a_video(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    models = tmp_path / "models"
    assert main(["download", str(models)]) == 0
    shown = capsys.readouterr()
    assert "The model is complete." in shown.out
    for source in (sources.DICE, sources.PROGRAM, sources.WHISPER, sources.SVD):
        assert f"{source.name} at " in shown.err and f"licence: {source.licence}" in shown.err
    assert hub.asked() == {file.remote for file in files.MODEL_FILES}, "and nothing else of the listings"
    assert main(["doctor", str(models)]) == 0
    assert "damaged" not in capsys.readouterr().out
    hub.requests.clear()
    assert main(["download", str(models)]) == 0
    assert hub.requests == []
    assert generate(models, tmp_path / "released.mp4") == 0
    assert "CenterFace" not in capsys.readouterr().err
    converted = models / "dicetalk-fp32.safetensors"
    assert main(["convert", str(models), str(converted), "--dtype", "fp32"]) == 0
    for file in files.DICE_FILES:
        (models / file.name).unlink()
    assert main(["doctor", str(models)]) == 0
    assert generate(models, tmp_path / "converted.mp4") == 0
    assert (tmp_path / "converted.mp4").stat().st_size > 0


def test_a_refused_detector_stops_nothing(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "refused.pt"
    torch.jit.script(ReadsFiles()).save(path)
    hub.files(sources.DICE)["yoloface_v5m.pt"] = path.read_bytes()
    assert main(["download", str(tmp_path / "models")]) == 0
    assert "is not used, CenterFace finds faces instead" in capsys.readouterr().out
    assert generate(tmp_path / "models", tmp_path / "out.mp4") == 0
    assert capsys.readouterr().err.count("CenterFace") == 1
    hub.requests.clear()
    assert main(["download", str(tmp_path / "models")]) == 0
    assert hub.requests == [], "what is refused is not fetched again"
