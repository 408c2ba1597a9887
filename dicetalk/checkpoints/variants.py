"""Registry of model variants: sizes, networks, files and licences, adapters and recommended settings of each.

A variant is one entry here. One without emotion or pose leaves out these networks and has fewer adapters; one that
predicts motion from the speech has a network more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from dicetalk import config as sizes
from dicetalk.adapters import AUDIO, DICE_ADAPTERS, EMOTION, Adapter
from dicetalk.checkpoints.files import (
    MODEL_FILES,
    OWN_FILES,
    PACKED,
    PRIORS,
    SHARED_FILES,
    SONIC_FILES,
    SONIC_PACKED,
    ModelFile,
)
from dicetalk.checkpoints.networks import DICE_NETWORKS, SONIC_NETWORKS, DiceNetwork
from dicetalk.config import ModelConfig, SamplingConfig
from dicetalk.settings import SamplerSettings


@dataclass(frozen=True, eq=False)
class Variant:
    """One kind of model.

    Args:
        name: its name in configs and on the command line.
        what: one line about it.
        config: sizes of its networks, and the sampling that they were made for.
        networks: its own networks, with the file of each; the UNet is one of them.
        files: files that it is published as, each with repository, revision and licence; none for a model that comes
            with the package.
        packed: file that ``dicetalk convert`` packs its own networks into.
        trained: files that no release has and that a training of one's own may add.
        adapters: adapters of the UNet, in the order of its projections.

    Raises:
        ValueError: the UNet has another number of adapters, or an adapter's network is not one of `networks`.
    """

    name: str
    what: str
    config: ModelConfig
    networks: tuple[DiceNetwork, ...] = DICE_NETWORKS
    files: tuple[ModelFile, ...] = ()
    packed: ModelFile = PACKED
    trained: tuple[ModelFile, ...] = OWN_FILES
    adapters: tuple[Adapter, ...] = DICE_ADAPTERS

    def __post_init__(self) -> None:
        if len(self.adapters) != self.config.unet.num_adapters:
            raise ValueError(
                f"{self.name} has {len(self.adapters)} adapters, its UNet {self.config.unet.num_adapters}."
            )
        missing = {adapter.network for adapter in self.adapters} - {network.field for network in self.networks}
        if missing:
            raise ValueError(f"{self.name} has adapters without their networks {', '.join(sorted(missing))}.")

    @property
    def has_emotions(self) -> bool:
        """Whether it shows emotions: one of its adapters is for them."""
        return EMOTION in self.adapters

    @property
    def own_files(self) -> tuple[ModelFile, ...]:
        """Published files of its own networks."""
        return tuple(network.file for network in self.networks)

    @property
    def priors(self) -> dict[str, ModelFile]:
        """Files of its emotion priors, by the emotion."""
        return {emotion: file for emotion, file in PRIORS.items() if file in self.files}

    @property
    def marks(self) -> frozenset[str]:
        """Names of its own files that no other variant's have: whose networks a folder holds shows by these."""
        others = {file.base for each in RELEASED if each is not self for file in each.own_files}
        return frozenset(file.base for file in self.own_files) - others

    def is_home(self, folder: Path) -> bool:
        """Whether a folder has the name of the one that the variant's own networks are published in."""
        home = PurePosixPath(self.own_files[0].name).parent.name
        return bool(home) and folder.absolute().name.casefold() == home.casefold()

    def place(self, file: ModelFile, folder: Path) -> str:
        """Path below a model folder at which a download puts `file`."""
        return file.base if file in self.own_files and self.is_home(folder) else file.name

    @property
    def licences(self) -> dict[str, str]:
        """Licence of each repository that files come from, by the repository's page."""
        return {file.source.page: file.source.licence for file in self.files if file.source is not None}

    @property
    def option(self) -> str:
        """Option that selects this variant where nothing in its folder shows it, with a space before."""
        return "" if self is FULL else f" --variant {self.name}"

    @property
    def settings(self) -> SamplerSettings:
        """Sampler settings that it was made for."""
        return recommended_settings(self.config.sampling)


def recommended_settings(sampling: SamplingConfig) -> SamplerSettings:
    """Sampler settings that networks were made for."""
    return SamplerSettings(
        steps=sampling.steps,
        portrait_guidance=sampling.portrait_guidance,
        expression_guidance=sampling.expression_guidance,
        schedule=sampling.schedule,
    )


TINY = Variant("tiny", "small model of drawn faces that comes with the package", sizes.TINY)
FULL = Variant("full", "released DICE-Talk", sizes.FULL, files=MODEL_FILES)
SONIC = Variant(
    "sonic",
    "released Sonic",
    sizes.SONIC,
    networks=SONIC_NETWORKS,
    files=(*SONIC_FILES, *SHARED_FILES),
    packed=SONIC_PACKED,
    trained=(),
    adapters=(AUDIO,),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in (TINY, FULL, SONIC)})

RELEASED = tuple(variant for variant in VARIANTS.values() if variant.files)
"""Variants that are published as files; a folder with networks of several holds the first of them."""
