"""What lets small networks of Stable Video Diffusion's kind learn from nothing."""

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def regroup(network: Network, groups: int) -> Network:
    """Let every ``GroupNorm`` of `network` have so many groups, and return it.

    Networks of Stable Video Diffusion's kind have 32 groups whatever their width. Where a layer has few channels for
    each, a picture's brightness is normalised away channel by channel, and no later layer can bring it back.

    Raises:
        ValueError: a layer's channels are no multiple of `groups`.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            if module.num_channels % groups:
                raise ValueError(f"{module.num_channels} channels do not divide into {groups} groups.")
            module.num_groups = groups
    return network


def quieten_residuals(network: nn.Module) -> None:
    """Let every residual block of a network add nothing at first.

    Deep networks then start as shallow ones, and learn several times faster (zero-initialised last layers as in
    Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021).
    """
    for module in network.modules():
        for last in (getattr(module, "conv2", None), getattr(module, "proj_out", None)):
            if isinstance(last, (nn.Conv2d, nn.Conv3d, nn.Linear)):
                nn.init.zeros_(last.weight)
                if last.bias is not None:
                    nn.init.zeros_(last.bias)
