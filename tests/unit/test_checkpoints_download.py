"""Downloading from a local server with the public listings: missing and damaged files, interruption, refusal."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED
from fake_hub import DICE_COMMIT, CutOff, FakeHub, Refused, Request, point_clients_at, serving
from released_files import SMALL

from dicetalk.checkpoints import download, files, sources
from dicetalk.checkpoints.doctor import inspect_model
from dicetalk.checkpoints.download import download_model
from dicetalk.errors import Cancelled, CheckpointError
from dicetalk.hooks import SILENT, Hooks

RANGE = 100_000


@pytest.fixture(autouse=True)
def _short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several requests for each of the small files."""
    monkeypatch.setattr(download, "RANGE_BYTES", RANGE)


@pytest.fixture
def models(made: FakeHub, tmp_path: Path) -> Path:
    """A complete model, as a download leaves it."""
    folder = tmp_path / "models"
    for file in files.MODEL_FILES:
        (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(made.files(file.source)[file.remote])
    return folder


def fetch(folder: Path, hooks: Hooks = SILENT, token: str | None = None) -> None:
    download_model(folder, hooks, token, config=SMALL)


def complete(folder: Path) -> bool:
    return inspect_model(folder, config=SMALL).complete


def body(hub: FakeHub, file: files.ModelFile) -> bytes:
    return hub.files(file.source)[file.remote]


def relative_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_folder_becomes_a_complete_model(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "models"
    seen: list[tuple[str, int, int]] = []
    notices: list[str] = []
    hooks = Hooks(lambda stage, done, total, preview: seen.append((stage, done, total)), notice=notices.append)
    fetch(folder, hooks, token="hf_x")
    assert complete(folder)
    assert relative_files(folder) == {file.name for file in files.MODEL_FILES}
    for file in files.MODEL_FILES:
        assert (folder / file.name).read_bytes() == body(hub, file)
    total = sum(len(body(hub, file)) for file in files.MODEL_FILES) // 1_000_000
    assert {(stage, of) for stage, _, of in seen} == {("download", total)}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == total
    assert max(request.size for request in hub.requests) == RANGE
    tokens = {(request.repository == sources.PROGRAM.name, request.token) for request in hub.requests}
    assert tokens == {(False, "Bearer hf_x"), (True, None)}, "the token is the hub's alone"
    for source in (sources.DICE, sources.WHISPER, sources.SVD, sources.PROGRAM):
        (notice,) = [notice for notice in notices if notice.startswith(f"{source.name} at ")]
        assert source.licence in notice and source.page in notice


def test_every_repository_is_read_at_one_commit(hub: FakeHub, tmp_path: Path) -> None:
    """Pinned ones at theirs; the one whose commits are not public at the branch's newest, looked up once."""
    notices: list[str] = []
    fetch(tmp_path, Hooks(notice=notices.append))
    commits = {sources.DICE: DICE_COMMIT} | {s: s.revision for s in (sources.WHISPER, sources.SVD)}
    assert hub.listings == [f"{source.name}@{commit}" for source, commit in commits.items()]
    assert any(f"{sources.DICE.name} at {DICE_COMMIT}" in notice for notice in notices)
    for source in (sources.WHISPER, sources.SVD, sources.PROGRAM):
        assert len(source.revision) == 40 and set(source.revision) <= set("0123456789abcdef")
        assert f"/{source.revision}/" in source.url("x")


def test_a_file_that_moved_on_the_branch_is_found_by_its_name(hub: FakeHub, tmp_path: Path) -> None:
    listed = hub.files(sources.DICE)
    listed["unet.pth"] = listed.pop("DICE-Talk/unet.pth")
    fetch(tmp_path)
    assert complete(tmp_path)


def test_a_complete_model_is_left_alone(hub: FakeHub, models: Path) -> None:
    fetch(models)
    assert hub.requests == [] and hub.listings == []


def test_only_what_is_missing_or_damaged_is_fetched(hub: FakeHub, models: Path) -> None:
    (models / "emo_model.pth").unlink()
    (models / "pose_guider.pth").write_text("<html>")
    (models / "yoloface_v5m.pt").write_bytes(b"")
    (models / "emotion" / "sad.npy").write_bytes(b"")
    fetch(models)
    names = {"DICE-Talk/emo_model.pth", "DICE-Talk/pose_guider.pth", "yoloface_v5m.pt", "examples/emo/sad.npy"}
    assert hub.asked() == names
    assert complete(models)
    assert (models / "pose_guider.pth.damaged").read_text() == "<html>"
    hub.requests.clear()
    fetch(models)
    assert hub.requests == [], "what was fetched is sound"


def test_a_damaged_file_elsewhere_does_not_hide_the_new_one_and_keeps_its_name(hub: FakeHub, models: Path) -> None:
    (models / "DICE-Talk").mkdir()
    (models / "unet.pth").unlink()
    (models / "DICE-Talk" / "unet.pth").write_bytes(b"")
    fetch(models)
    assert complete(models)
    assert (models / "DICE-Talk" / "unet.pth").read_bytes() == b""


def breaking(share: float, of: str) -> Callable[[Request], None]:
    """Break every connection that would pass `share` of the file whose path ends in `of`."""

    def fault(request: Request) -> None:
        if request.path.endswith(of) and request.start + request.size > limit[0]:
            raise CutOff(max(0, limit[0] - request.start))

    limit = [share]
    return fault


def test_a_connection_that_breaks_at_40_percent_goes_on_there(hub: FakeHub, models: Path) -> None:
    (models / "unet.pth").unlink()
    size = len(body(hub, files.UNET))
    hub.fault = breaking(0.4 * size // 1, "unet.pth")
    with pytest.raises(CheckpointError, match=r"Check the network and run it again; what was fetched is kept"):
        fetch(models)
    assert not (models / "unet.pth").exists()
    (partial,) = models.glob(".unet.pth.*.part")
    kept = partial.stat().st_size
    assert 0.4 * size - RANGE < kept <= 0.4 * size
    hub.fault = lambda request: None
    hub.requests.clear()
    fetch(models)
    assert [request.start for request in hub.requests] == list(range(kept, size, RANGE))
    assert (models / "unet.pth").read_bytes() == body(hub, files.UNET)
    assert not list(models.glob(".*.part"))


def test_priors_go_on_with_the_first_that_is_missing(hub: FakeHub, models: Path) -> None:
    shutil.rmtree(models / "emotion")
    names = [prior.remote for prior in files.PRIORS.values()]
    hub.fault = breaking(500, names[3])
    with pytest.raises(CheckpointError, match=r"toto222/DICE-Talk: .*run it again"):
        fetch(models)
    assert len(relative_files(models / "emotion")) == 3
    hub.fault = lambda request: None
    hub.requests.clear()
    fetch(models)
    assert [request.path for request in hub.requests] == names[3:]
    assert complete(models)


def test_a_fault_that_passes_is_not_seen(hub: FakeHub, models: Path) -> None:
    (models / "unet.pth").unlink()
    once = iter([Refused(503), CutOff(1000)])

    def fault(request: Request) -> None:
        if (error := next(once, None)) is not None:
            raise error

    hub.fault = fault
    fetch(models)
    assert complete(models)


@pytest.mark.parametrize("how", ["hook", "ctrl-c"])
def test_stopping_keeps_what_was_fetched(
    hub: FakeHub, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(range(100))
    hooks = Hooks(cancelled=lambda: how == "hook" and next(asked) == 3)
    if how == "ctrl-c":

        def interrupted(stage: str, done: int, total: int, preview: object) -> None:
            if len(hub.requests) == 3:
                raise KeyboardInterrupt

        hooks = Hooks(progress=interrupted)
    with pytest.raises(Cancelled if how == "hook" else KeyboardInterrupt):
        fetch(tmp_path, hooks)
    assert [(p.name.startswith(".unet.pth."), p.stat().st_size) for p in tmp_path.iterdir()] == [(True, 3 * RANGE)]


KILLED = """
import sys
from dicetalk.checkpoints import download, sources
from released_files import SMALL
sources.GITHUB_RAW = sys.argv[1]
download.RANGE_BYTES = 100_000
download.download_model(sys.argv[2], config=SMALL)
"""


def test_a_process_that_is_killed_goes_on_where_it_was(hub: FakeHub, models: Path, tmp_path: Path) -> None:
    (models / "unet.pth").unlink()
    size = len(body(hub, files.UNET))

    def kill(request: Request) -> None:
        if request.start > 0.4 * size:
            os.kill(process.pid, signal.SIGKILL)

    hub.fault = kill
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]),
    }
    command = [sys.executable, "-c", KILLED, f"{hub.url}/raw", str(models)]
    process = subprocess.Popen(command, env=environment)
    assert process.wait() == -signal.SIGKILL
    (partial,) = models.glob(".unet.pth.*.part")
    kept = partial.stat().st_size
    assert 0.4 * size < kept < size
    hub.fault = lambda request: None
    hub.requests.clear()
    fetch(models)
    assert hub.requests[0].start == kept
    assert (models / "unet.pth").read_bytes() == body(hub, files.UNET)


def test_a_new_version_on_the_hub_is_not_joined_with_the_old(hub: FakeHub, models: Path) -> None:
    (models / "unet.pth").unlink()
    (models / ".unet.pth.0123456789ab.part").write_bytes(b"\0" * RANGE)
    fetch(models)
    assert hub.requests[0].start == 0
    assert complete(models)
    assert not list(models.glob(".*.part")), "nobody needs the old version's part any more"


@pytest.mark.parametrize("file", [files.UNET, files.WHISPER_CONFIG, files.PRIORS["sad"]], ids=lambda file: file.name)
def test_content_with_another_checksum_is_thrown_away(hub: FakeHub, models: Path, file: files.ModelFile) -> None:
    """Large files have a SHA-256 on the hub, small ones git's name of their content, priors one in the table."""
    (models / file.name).unlink()
    listed = dict(hub.files(file.source))
    wrong = bytes(reversed(listed[file.remote]))

    def fault(request: Request) -> None:  # after the listing: what is sent differs from what was announced
        hub.files(file.source)[file.remote] = wrong

    hub.fault = fault
    with pytest.raises(CheckpointError, match=rf"{file.name}: what {file.source.page} sent is not what .*run it again"):
        fetch(models)
    assert not (models / file.name).exists()
    assert not list(models.rglob(".*.part"))
    hub.fault = lambda request: None
    hub.files(file.source)[file.remote] = listed[file.remote]
    fetch(models)
    assert complete(models)


def test_a_published_file_that_cannot_be_used_is_not_fetched_again(hub: FakeHub, models: Path) -> None:
    hub.files(sources.DICE)["yoloface_v5m.pt"] = b"of a form that is not known"
    (models / "yoloface_v5m.pt").write_bytes(b"of a form that is not known")
    (models / "pose_guider.pth").unlink()
    with pytest.raises(CheckpointError, match=r"yoloface_v5m\.pt is what .*EEEELY/DICE-Talk publishes, but is no"):
        fetch(models)
    assert hub.asked() == {"DICE-Talk/pose_guider.pth"}
    assert (models / "pose_guider.pth").exists() and not list(models.glob("*.damaged"))


def test_a_damaged_part_of_a_download_is_thrown_away(hub: FakeHub, models: Path) -> None:
    (models / "unet.pth").unlink()
    sha = hashlib.sha256(body(hub, files.UNET)).hexdigest()
    (models / f".unet.pth.{sha[:12]}.part").write_bytes(b"\0" * RANGE)
    with pytest.raises(CheckpointError, match="its size or checksum differs"):
        fetch(models)
    assert not list(models.glob("*unet*")) and not list(models.glob(".*.part"))


@pytest.mark.parametrize("when", ["listing", "file"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_says_how_to_get_in_and_the_rest_is_fetched(
    hub: FakeHub, tmp_path: Path, when: str, status: int
) -> None:
    refused = Refused(status, "GatedRepo")
    if when == "listing":
        hub.closed[sources.SVD.name] = refused
    else:

        def fault(request: Request) -> None:
            if request.repository == sources.SVD.name:
                raise refused

        hub.fault = fault
    with pytest.raises(CheckpointError) as caught:
        fetch(tmp_path)
    for word in (sources.SVD.page, "licence", "--token", "svd_xt.safetensors"):
        assert word in str(caught.value)
    missing = [r.file for r in inspect_model(tmp_path, config=SMALL).files if r.state != "found"]
    assert missing == [files.VAE, files.IMAGE_ENCODER]


def test_without_a_network_every_repository_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FakeHub()) as nobody:
        pass
    made = FakeHub(url=nobody.url)
    made.publish(sources.PROGRAM, {prior.remote: b"x" for prior in files.PRIORS.values()})
    point_clients_at(made, monkeypatch)
    with pytest.raises(CheckpointError) as caught:
        fetch(tmp_path)
    for source in (sources.DICE, sources.WHISPER, sources.SVD, sources.PROGRAM):
        assert f"{source.name}: " in str(caught.value)
    assert str(caught.value).count("Check the network") == 4


def test_what_a_repository_no_longer_has_is_named(hub: FakeHub, tmp_path: Path) -> None:
    del hub.files(sources.DICE)["DICE-Talk/unet.pth"]
    del hub.files(sources.PROGRAM)["examples/emo/neutral.npy"]
    with pytest.raises(CheckpointError) as caught:
        fetch(tmp_path)
    assert f"unet.pth: not in https://huggingface.co/EEEELY/DICE-Talk at {DICE_COMMIT}" in str(caught.value)
    assert "toto222/DICE-Talk: " in str(caught.value) and "404" in str(caught.value)


def test_too_little_space_is_said_before_anything_is_fetched(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(CheckpointError, match=r"MB are to be fetched and 1 kB are free"):
        fetch(tmp_path)
    assert hub.requests == []


def test_what_was_fetched_already_needs_no_space_again(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = body(hub, files.UNET)
    (models / "unet.pth").unlink()
    (models / f".unet.pth.{hashlib.sha256(unet).hexdigest()[:12]}.part").write_bytes(unet[:-1000])
    (models / ".other.pth.0123456789ab.part").write_bytes(unet)
    usage = shutil.disk_usage(models)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage._replace(free=999))
    with pytest.raises(CheckpointError, match="1 kB are to be fetched"):
        fetch(models)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    fetch(models)
    assert complete(models)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_fills_up_is_named(hub: FakeHub, models: Path) -> None:
    (models / "unet.pth").unlink()
    version = hashlib.sha256(body(hub, files.UNET)).hexdigest()[:12]
    (models / f".unet.pth.{version}.part").symlink_to("/dev/full")
    with pytest.raises(
        CheckpointError, match=r"cannot be written \(No space left on device\)\. What was fetched is kept"
    ):
        fetch(models)
    assert not (models / "unet.pth").exists()


def test_a_damaged_converted_file_is_named(hub: FakeHub, models: Path) -> None:
    (models / "dicetalk-fp16.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"dicetalk-fp16\.safetensors is damaged; delete it"):
        fetch(models)


def test_a_folder_that_is_a_file_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(CheckpointError, match="models cannot be used"):
        fetch(tmp_path / "models")


@pytest.mark.skipif(not (SHARED / "data" / "priors").is_dir(), reason="the released priors are not at hand")
def test_the_released_priors_have_the_checksums_of_the_table(
    made: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = {prior: (SHARED / "data" / "priors" / Path(prior.name).name) for prior in files.PRIORS.values()}
    hub = FakeHub(dict(made.content))
    hub.publish(sources.PROGRAM, {prior.remote: path.read_bytes() for prior, path in released.items()})
    expected: dict[str, Any] = {prior.name: (prior.bytes, prior.sha256) for prior in released}
    with serving(hub):
        point_clients_at(hub, monkeypatch)
        assert expected == {prior.name: (prior.bytes, prior.sha256) for prior in released}
        fetch(tmp_path)
    assert complete(tmp_path)
