"""Commands that are killed at any moment leave whole files only, and the next run removes what they had begun.

The moments are random, with a seed: half of them anywhere in the command's time, half shortly after it has begun to
write. Few are tried by default; ``pytest tests/unit/test_kills.py -m slow -s`` tries many and prints what was seen.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from forked_commands import CLIPS, ROOT, command, finish, needs_forks, start
from small_disks import unfinished_in
from small_films import content

from dicetalk.errors import OutputError
from dicetalk.files import only_writer, replacing
from dicetalk.train.checkpoint import load_newest
from dicetalk.train.shards import list_prepared, read_clip
from dicetalk.unfinished import sweep

pytestmark = needs_forks

COMMANDS = ("generate", "webm", "pictures", "convert", "emotion", "prepare", "train")
FEW, MANY = 2, 40


def made(path: Path) -> object:
    """All that counts of a result, to be compared: of shards the clips, of other folders the files in them."""
    if (path / "curves").is_dir() or path.name == CLIPS["pictures"]:
        return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file()}
    return content(path) if path.is_dir() else path.read_bytes()


def check_whole(path: Path, allowed: list[object]) -> None:
    """Nothing in a killed command's result is half there."""
    if path.name in CLIPS.values() or path.suffix:
        assert not path.exists() or made(path) in allowed
        return
    for record in list_prepared(path):  # with the clips that wait for a shard
        read_clip(record)
    if any((path / "checkpoints").glob("step-*")):
        assert load_newest(path / "checkpoints")["step"] > 0
    for exported in path.glob("*.safetensors"):
        if not exported.name.startswith("shard-"):
            assert exported.read_bytes() in allowed[0].values()


def kill(process: BaseProcess, folder: Path, moment: random.Random, usual: float) -> None:
    """Kill a command at a random moment, or let it end first."""
    if moment.random() < 0.5:
        process.join(moment.uniform(0, usual))
    else:
        limit = time.monotonic() + usual
        while process.is_alive() and not unfinished_in(folder) and time.monotonic() < limit:
            time.sleep(0.001)
        process.join(moment.uniform(0, 0.05))
    process.kill()
    process.join()


@cache
def undisturbed(name: str, inputs: Path, variant: int) -> tuple[object, float]:
    """What a command makes when nobody disturbs it, and the seconds that it takes."""
    folder = inputs / f"{name}{variant}"
    folder.mkdir()
    words, target = command(name, inputs, folder, variant)
    began = time.monotonic()
    assert finish(start(words, folder / "log.txt")) == 0, (folder / "log.txt").read_text()
    return made(target), time.monotonic() - began


def killed_again_and_again(name: str, inputs: Path, folder: Path, times: int, seed: int) -> Counter:
    """Run a command, kill it and look, so many times; in the end it makes what it makes when nobody disturbs it."""
    out, log = folder / "out", folder / "log.txt"
    out.mkdir()
    expected, usual = undisturbed(name, inputs, 0)
    words, target = command(name, inputs, out)
    seen, moment, allowed = Counter(), random.Random(seed), [expected]
    for number in range(times):
        if target.suffix and number % 2:
            target.write_bytes(b"old")
            allowed = [expected, b"old"]
        process = start(words, log)
        kill(process, out, moment, usual)
        seen["killed" if process.exitcode == -signal.SIGKILL else "ended before"] += 1
        assert process.exitcode in (-signal.SIGKILL, 0), log.read_text()
        check_whole(target, allowed)
        seen["left unfinished files"] += bool(unfinished_in(out))
        # Else the next run goes on from here, unless it wants an empty folder.
        if process.exitcode == 0 or name == "pictures" or moment.random() < 0.2:
            subprocess.run(["rm", "-rf", str(target)], check=True)
    assert finish(start(words, log)) == 0, log.read_text()
    assert made(target) == expected and not unfinished_in(out)
    return seen


@pytest.mark.parametrize("name", COMMANDS)
def test_a_few_kills(inputs: Path, tmp_path: Path, name: str) -> None:
    seen = killed_again_and_again(name, inputs, tmp_path, FEW, seed=1)
    assert seen.total() >= FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_many_kills(inputs: Path, tmp_path: Path, name: str) -> None:
    seen = killed_again_and_again(name, inputs, tmp_path, MANY, seed=2)
    print(f"\n{name}: {dict(seen)}")
    assert seen["killed"] >= MANY // 2 and seen["left unfinished files"]


HOLDER = """
import sys, time
from pathlib import Path
from dicetalk.files import only_writer, replacing
with {block}:
    {write}
    print("ready", flush=True)
    time.sleep(120)
"""
FILE = HOLDER.format(block="replacing(Path(sys.argv[1])) as part", write="part.write_bytes(b'half')")
FOLDER = HOLDER.format(block="replacing(Path(sys.argv[1])) as part", write="part.mkdir(); (part / 'x').touch()")
ALONE = HOLDER.format(block="only_writer(Path(sys.argv[1]))", write="pass")


def holding(program: str, path: Path) -> subprocess.Popen:
    """A program of its own that is in the middle of writing `path`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("program", [FILE, FOLDER], ids=["file", "folder"])
def test_what_a_running_program_writes_is_left_alone(tmp_path: Path, program: str) -> None:
    process = holding(program, tmp_path / "clip.mp4")
    try:
        (part,) = tmp_path.glob("*.part")
        os.utime(part, (0, 0))  # age says nothing
        sweep(tmp_path)
        with replacing(tmp_path / "clip.mp4") as partial:  # another command, in the same folder
            partial.write_bytes(b"whole")
        assert part.exists() and part.with_suffix(".lock").exists()
    finally:
        end(process)
    assert part.exists(), "killed"
    sweep(tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.mp4", b"whole")]


def with_number(number: int) -> bool:
    """Whether the next process could be given this number (Linux, as root)."""
    try:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
    except OSError:
        return False
    return True


def test_a_number_that_another_process_has_now_protects_nothing(tmp_path: Path) -> None:
    """Whoever decides by process numbers would take the part of a dead program for a living one's."""
    first = holding(FILE, tmp_path / "clip.mp4")
    end(first)
    for _ in range(50):  # other programs start meanwhile
        if not with_number(first.pid):
            pytest.skip("numbers of processes cannot be chosen here")
        second = subprocess.Popen(["sleep", "60"])
        if second.pid == first.pid:
            break
        second.kill()
        second.wait()
    else:
        pytest.skip("the number was never free")
    try:
        assert unfinished_in(tmp_path)
        sweep(tmp_path)
        assert not unfinished_in(tmp_path)
    finally:
        second.kill()
        second.wait()


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    process = holding(ALONE, tmp_path)
    try:
        with pytest.raises(OutputError, match=r"is being written by another program\. Wait"), only_writer(tmp_path):
            raise AssertionError("entered")
    finally:
        end(process)
    with only_writer(tmp_path):  # what the kill has left is free
        assert unfinished_in(tmp_path)
    assert not unfinished_in(tmp_path)


@pytest.mark.parametrize("name", ["prepare", "train"])
def test_a_second_command_does_not_write_into_the_folder_of_the_first(inputs: Path, tmp_path: Path, name: str) -> None:
    words, target = command(name, inputs, tmp_path)
    target.mkdir()
    first = holding(ALONE, target)
    try:
        assert finish(start(words, tmp_path / "log.txt")) == 1
    finally:
        end(first)
    said = (tmp_path / "log.txt").read_text()
    assert f"error: {target} is being written by another program" in said and "Traceback" not in said


def at_once(words: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """Run commands at the same time: exit status of each, and what it said."""
    logs = [folder / f"log{number}.txt" for number in range(len(words))]
    processes: list[BaseProcess] = [start(*both) for both in zip(words, logs, strict=True)]
    return [(finish(process), log.read_text()) for process, log in zip(processes, logs, strict=True)]


@pytest.mark.parametrize("name", ["generate", "convert", "emotion"])
def test_two_commands_write_one_file(inputs: Path, tmp_path: Path, name: str) -> None:
    expected = [undisturbed(name, inputs, variant)[0] for variant in range(2)]
    assert expected[0] != expected[1]
    out = tmp_path / "out"
    out.mkdir()
    commands = [command(name, inputs, out, variant) for variant in range(2)]
    assert [status for status, _ in at_once([words for words, _ in commands], tmp_path)] == [0, 0]
    assert [path.read_bytes() in expected for path in out.iterdir()] == [True]


def result_of_two(name: str, inputs: Path, folder: Path, check: Callable[[Path], object]) -> None:
    words, target = command(name, inputs, folder)
    found = at_once([words, words], folder)
    assert sorted(status for status, _ in found) in ([0, 0], [0, 1])
    for status, said in found:
        assert "Traceback" not in said and (status == 0 or "is being written by another program" in said)
    check(target)
    assert not unfinished_in(folder)


def test_two_commands_write_one_folder(inputs: Path, tmp_path: Path) -> None:
    """One of them, or one after the other."""
    result_of_two("prepare", inputs, tmp_path, lambda target: len(content(target)) == 3 or pytest.fail("clips"))
    result_of_two("train", inputs, tmp_path, lambda target: load_newest(target / "checkpoints")["step"] == 6)


def test_two_commands_write_one_folder_of_pictures(inputs: Path, tmp_path: Path) -> None:
    words = [command("pictures", inputs, tmp_path, variant)[0] for variant in range(2)]
    found = at_once(words, tmp_path)
    assert 0 in {status for status, _ in found}
    for status, said in found:
        assert "Traceback" not in said
        assert status == 0 or "put there meanwhile" in said or "is not an empty folder" in said
    assert len(list((tmp_path / "frames").iterdir())) == 5 and not unfinished_in(tmp_path)
