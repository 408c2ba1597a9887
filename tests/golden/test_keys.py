"""Every name and shape of the full-size released files against our networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_fixtures import Golden
from torch import nn

from dicetalk.attention import sdpa_attention
from dicetalk.checkpoints import networks
from dicetalk.checkpoints.networks import DICE_NETWORKS
from dicetalk.checkpoints.read import DamagedFileError
from dicetalk.checkpoints.strict import check_names_and_shapes
from dicetalk.config import FULL

BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "flownet.pkl": networks.flownet,
    "vae": lambda: networks.vae(FULL.vae),
    **{
        network.file.name: lambda network=network: networks.dice_network(network, FULL, nn, sdpa_attention)
        for network in DICE_NETWORKS
    },
}
END = ".keys.json"


def released(golden: Golden, file: str) -> dict[str, torch.Tensor]:
    """Tensors without memory under the released names, as the release strips them."""
    keys = golden.json(f"keys/{file}{END}")
    return {
        name.replace(networks.FLOWNET_PREFIX, ""): torch.empty(shape, device="meta") for name, shape in keys.items()
    }


def test_every_listed_file_has_a_network(golden: Golden) -> None:
    assert {name.removesuffix(END) for name in golden.json("keys/index.json")} <= set(BUILDERS)


@pytest.mark.parametrize("file", BUILDERS)
def test_names_and_shapes_are_the_released_ones(golden: Golden, file: str) -> None:
    tensors = released(golden, file)
    network = BUILDERS[file]()
    check_names_and_shapes(Path(file), network, tensors)
    assert set(network.state_dict()) == set(tensors)
    counted = golden.json("keys/index.json")[f"{file}{END}"]
    assert len(tensors) == counted["keys"]
    assert sum(tensor.numel() for tensor in tensors.values()) == counted["numel"]


@pytest.mark.parametrize("file", BUILDERS)
def test_one_name_more_or_less_or_another_shape_is_refused(golden: Golden, file: str) -> None:
    tensors = released(golden, file)
    network = BUILDERS[file]()
    for name in (next(iter(tensors)), next(reversed(tensors))):
        less = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(DamagedFileError, match=f"1 of {len(tensors)} tensors missing \\({name}\\)"):
            check_names_and_shapes(Path(file), network, less)
        with pytest.raises(DamagedFileError, match=f"of another shape \\({name} "):
            check_names_and_shapes(Path(file), network, tensors | {name: torch.empty(7, 7, device="meta")})
    with pytest.raises(DamagedFileError, match=r"unexpected \(more\)"):
        check_names_and_shapes(Path(file), network, tensors | {"more": torch.empty(1)})
