"""What is fuzzed: a target makes a case in a folder out of real files, and reads it."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

Files = Mapping[str, bytes]
"""Contents by file name."""

Mutate = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """A reader.

    Args:
        name: of letters and ``-``.
        make: writes a case into an empty folder.
        read: reads it; the errors of :mod:`dicetalk.errors` are allowed.
    """

    name: str
    make: Callable[[random.Random, Path], None]
    read: Callable[[Path], object]


class Seeds:
    """Real files, made when they are first asked for."""

    def __init__(self, make: Callable[[], Files]):
        self._make = make

    @cached_property
    def files(self) -> Files:
        return self._make()


def one_file(name: str, seeds: Seeds, mutate: Mutate, read: Callable[[Path], object]) -> Target:
    """A target that reads one file, ``case`` with the suffix of the real file that it was made of."""
    return Target(name, partial(_write_one, seeds, mutate), lambda folder: read(only(folder)))


def only(folder: Path) -> Path:
    """The one file of a case."""
    (path,) = folder.iterdir()
    return path


def _write_one(seeds: Seeds, mutate: Mutate, rng: random.Random, folder: Path) -> None:
    names = sorted(seeds.files)
    name = rng.choice(names)
    path = folder / f"case{Path(name).suffix}"
    odd = rng.randrange(200)
    if odd == 0:
        path.mkdir()
    elif odd == 1:
        path.symlink_to("nowhere")
    elif odd == 2:
        path.write_bytes(b"")
    else:
        suffix = Path(name).suffix
        others = [seeds.files[each] for each in names if Path(each).suffix == suffix or rng.random() < 0.2]
        path.write_bytes(mutate(rng, seeds.files[name], others))


def one_of_several(name: str, seeds: Seeds, mutates: Mapping[str, Mutate], read: Callable[[Path], object]) -> Target:
    """A target that reads a folder of real files, of which one or two are changed, each as its suffix says."""

    def make(rng: random.Random, folder: Path) -> None:
        names = sorted(each for each in seeds.files if Path(each).suffix in mutates)
        changed = rng.sample(names, k=min(rng.choice((1, 1, 1, 2)), len(names)))
        for each, content in seeds.files.items():
            path = folder / each
            path.parent.mkdir(parents=True, exist_ok=True)
            if each in changed:
                if rng.randrange(40) == 0:
                    continue
                content = mutates[path.suffix](rng, content, list(seeds.files.values()))
            path.write_bytes(content)

    return Target(name, make, read)
