"""Repositories that publish the model's files, each at a pinned revision, and the direct address of a file in them."""

from dataclasses import dataclass
from enum import Enum

HUB = "https://huggingface.co"
GITHUB = "https://github.com"
GITHUB_RAW = "https://raw.githubusercontent.com"


class Host(Enum):
    """Site of a repository."""

    HUGGING_FACE = "Hugging Face"
    GITHUB = "GitHub"


@dataclass(frozen=True)
class Repository:
    """A public repository of files.

    Args:
        name: ``owner/name``.
        revision: commit from which files are read, or a branch where no commit is known.
        licence: of its files.
        host: site that it is on.
    """

    name: str
    revision: str
    licence: str
    host: Host = Host.HUGGING_FACE

    @property
    def page(self) -> str:
        """Address for people."""
        return f"{HUB if self.host is Host.HUGGING_FACE else GITHUB}/{self.name}"

    def url(self, path: str) -> str:
        """Direct address of the file `path`."""
        if self.host is Host.HUGGING_FACE:
            return f"{HUB}/{self.name}/resolve/{self.revision}/{path}"
        return f"{GITHUB_RAW}/{self.name}/{self.revision}/{path}"


# No commit of this repository is listed in public: a download takes the branch's newest one, reads every file of that
# run from it, names it, and compares content with the checksums that the hub keeps.
DICE = Repository("EEEELY/DICE-Talk", "main", "CC BY-NC-SA 4.0")
# Likewise: the listings that are public name its commits by their first seven digits only.
SONIC = Repository("LeonJoe13/Sonic", "main", "CC BY-NC-SA 4.0")
PROGRAM = Repository("toto222/DICE-Talk", "a8a92b164a3f552414d06a463a2b2e8eeb92db0b", "CC BY-NC-SA 4.0", Host.GITHUB)
WHISPER = Repository("openai/whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af", "Apache 2.0")
SVD = Repository(
    "stabilityai/stable-video-diffusion-img2vid-xt",
    "9e43909513c6714f1bc78bcb44d96e733cd242aa",
    "Stability AI Community License",
)
