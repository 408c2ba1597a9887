"""Registry of model variants: sizes, networks, files and licences, adapters and recommended settings of each.

A variant is one entry here. One without emotion or pose leaves out these networks and has fewer adapters; one that
predicts motion for each frame brings `added_ids`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from dicetalk import config as sizes
from dicetalk.adapters import DICE_ADAPTERS, Adapter
from dicetalk.checkpoints import files
from dicetalk.checkpoints.files import ModelFile
from dicetalk.checkpoints.networks import DICE_NETWORKS, DiceNetwork
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
        adapters: adapters of the UNet, in the order of its projections.
        added_ids: see :class:`dicetalk.checkpoints.load.DiceModel`.

    Raises:
        ValueError: the UNet has another number of adapters, or an adapter's network is not one of `networks`.
    """

    name: str
    what: str
    config: ModelConfig
    networks: tuple[DiceNetwork, ...] = DICE_NETWORKS
    files: tuple[ModelFile, ...] = ()
    adapters: tuple[Adapter, ...] = DICE_ADAPTERS
    added_ids: Callable[..., torch.Tensor] | None = None

    def __post_init__(self) -> None:
        if len(self.adapters) != self.config.unet.num_adapters:
            raise ValueError(
                f"{self.name} has {len(self.adapters)} adapters, its UNet {self.config.unet.num_adapters}."
            )
        missing = {adapter.network for adapter in self.adapters} - {network.field for network in self.networks}
        if missing:
            raise ValueError(f"{self.name} has adapters without their networks {', '.join(sorted(missing))}.")

    @property
    def licences(self) -> dict[str, str]:
        """Licence of each repository that files come from, by the repository's page."""
        return {file.source.page: file.source.licence for file in self.files if file.source is not None}

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
    )


TINY = Variant("tiny", "small model of drawn faces that comes with the package", sizes.TINY)
FULL = Variant("full", "released DICE-Talk", sizes.FULL, files=files.MODEL_FILES)

VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in (TINY, FULL)})
