"""Every name and shape of the full-size released files against our networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_fixtures import Golden, golden_set
from torch import nn

from dicetalk.checkpoints import networks
from dicetalk.checkpoints.read import DamagedFileError
from dicetalk.checkpoints.strict import check_names_and_shapes
from dicetalk.checkpoints.variants import FULL, SONIC, Variant
from dicetalk.layers import sdpa_attention

Builders = dict[str, Callable[[], nn.Module]]


def own_networks(variant: Variant) -> Builders:
    """What the authors of a variant trained, by the released file."""
    return {
        network.file.base: lambda network=network: networks.dice_network(network, variant.config, nn, sdpa_attention)
        for network in variant.networks
    }


BUILDERS: dict[str, Builders] = {
    "DICE-Talk": {"flownet.pkl": networks.flownet, "vae": lambda: networks.vae(FULL.config.vae), **own_networks(FULL)},
    "Sonic": own_networks(SONIC),
}
END = ".keys.json"
each_file = pytest.mark.parametrize(
    ("program", "file"), [(program, file) for program, builders in BUILDERS.items() for file in builders]
)


def released(golden: Golden, file: str) -> dict[str, torch.Tensor]:
    """Tensors without memory under the released names, as the release strips them."""
    keys = golden.json(f"keys/{file}{END}")
    return {
        name.replace(networks.FLOWNET_PREFIX, ""): torch.empty(shape, device="meta") for name, shape in keys.items()
    }


@pytest.mark.parametrize("program", BUILDERS)
def test_every_listed_file_has_a_network(request: pytest.FixtureRequest, program: str) -> None:
    listed = golden_set(request.config, program).json("keys/index.json")
    assert {name.removesuffix(END) for name in listed} <= set(BUILDERS[program])


@each_file
def test_names_and_shapes_are_the_released_ones(request: pytest.FixtureRequest, program: str, file: str) -> None:
    golden = golden_set(request.config, program)
    tensors = released(golden, file)
    network = BUILDERS[program][file]()
    check_names_and_shapes(Path(file), network, tensors)
    assert set(network.state_dict()) == set(tensors)
    counted = golden.json("keys/index.json")[f"{file}{END}"]
    assert len(tensors) == counted["keys"]
    assert sum(tensor.numel() for tensor in tensors.values()) == counted["numel"]


@each_file
def test_one_name_more_or_less_or_another_shape_is_refused(
    request: pytest.FixtureRequest, program: str, file: str
) -> None:
    golden = golden_set(request.config, program)
    tensors = released(golden, file)
    network = BUILDERS[program][file]()
    for name in (next(iter(tensors)), next(reversed(tensors))):
        less = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(DamagedFileError, match=f"1 of {len(tensors)} tensors missing \\({name}\\)"):
            check_names_and_shapes(Path(file), network, less)
        with pytest.raises(DamagedFileError, match=f"of another shape \\({name} "):
            check_names_and_shapes(Path(file), network, tensors | {name: torch.empty(7, 7, device="meta")})
    with pytest.raises(DamagedFileError, match=r"unexpected \(more\)"):
        check_names_and_shapes(Path(file), network, tensors | {"more": torch.empty(1)})
