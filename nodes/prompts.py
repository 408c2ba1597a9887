"""Prompts before ComfyUI checks them: names of this release, dead inputs at their defaults, refusals at their inputs.

ComfyUI recognises a node that need not run again by all of its inputs, those that a choice makes dead included. And its
own hook for a node's checks puts one message at each input that a check looks at. Both are settled here instead, where
the whole prompt is known.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

from comfy_api.latest import io

Inputs = MutableMapping[str, Any]
Upstream = Callable[[str], list[Mapping[str, Any]]]


class Refused(str):
    """Takes the place of a value that no run could use: ComfyUI cannot convert it, and reports why at its input.

    Args:
        value: as it was given.
        why: what is wrong, and the way on.
    """

    why: str

    def __new__(cls, value: Any, why: str) -> "Refused":
        """The value as text, which no input takes, with the reason."""
        made = super().__new__(cls, f"{value} ({why.rstrip('.')})")
        made.why = why
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # ComfyUI copies a prompt into its history, where another output of it runs; a copy needs no refusal.
        return str, (str.__str__(self),)

    def __int__(self) -> int:
        raise ValueError("refused before the run")

    __float__ = __int__


class RefusedText(Refused):
    """Likewise, of a text, which everything can be converted to."""

    def __str__(self) -> str:
        raise ValueError("refused before the run")

    def __format__(self, form: str) -> str:
        return str.__str__(self)


class SettledNode(io.ComfyNode):
    """A node some of whose inputs a choice makes dead, or whose inputs may contradict each other."""

    @classmethod
    def dead_inputs(cls, inputs: Mapping[str, Any]) -> Iterable[str]:
        """Names of inputs that have no part in the result of `inputs`, beside those of options not chosen."""
        return ()

    @classmethod
    def rewired(cls, inputs: Mapping[str, Any], upstream: Upstream) -> Mapping[str, Any]:
        """Inputs that become others because of the nodes that a wire comes from.

        Args:
            inputs: of the node.
            upstream: the nodes of the prompt that the input of a name depends on, its own source first.
        """
        return {}

    @classmethod
    def refusals(cls, inputs: Mapping[str, Any]) -> Mapping[str, str]:
        """Errors of values that no run could use, by input. Values that come over wires are not known yet."""
        return {}


def settle_prompts_of(nodes: Mapping[str, type[io.ComfyNode]]) -> None:
    """Have ComfyUI's server hand over every prompt before it checks it.

    Args:
        nodes: classes of the pack's nodes, by their ids.
    """

    def settled(request: dict[str, Any]) -> dict[str, Any]:
        settle_prompt(request.get("prompt"), nodes)
        return request

    # Loaded before any node, except where nodes run without a server.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if hasattr(server, "add_on_prompt_handler"):
        server.add_on_prompt_handler(settled)


def settle_prompt(prompt: Any, nodes: Mapping[str, type[io.ComfyNode]]) -> None:
    """Settle the inputs of every node of `nodes` in a prompt of the API's form; what is no prompt stays as it is."""
    if not isinstance(prompt, dict):
        return
    for each in prompt.values():
        if isinstance(each, dict) and isinstance(each.get("inputs"), dict):
            node = nodes.get(str(each.get("class_type")))
            if node is not None:
                settle(node, each["inputs"], partial(_upstream, prompt, each["inputs"]))


def _upstream(prompt: Mapping[str, Any], inputs: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Nodes of `prompt` that the input `name` depends on, each once; none for a wire to nowhere."""
    found: dict[str, Mapping[str, Any]] = {}
    todo = [inputs.get(name)]
    while todo:
        wire = todo.pop()
        source = str(wire[0]) if is_wire(wire) and len(wire) == 2 else ""
        each = prompt.get(source)
        if source not in found and isinstance(each, dict) and isinstance(each.get("inputs"), dict):
            found[source] = each
            todo += each["inputs"].values()
    return list(found.values())


def settle(node: type[io.ComfyNode], inputs: Inputs, upstream: Upstream = lambda _name: []) -> None:
    """Bring the inputs of one node into the form that its schema asks for.

    Args:
        node: class of the node.
        inputs: its values and wires, by name; changed in place. Inputs that earlier releases had beside a choice are
            renamed to those of the chosen option, those that they did not have get their defaults. What the schema does
            not know is dropped.
        upstream: see :meth:`SettledNode.rewired`.
    """
    declared = node.define_schema().inputs
    for port in declared:
        if isinstance(port, io.DynamicCombo.Input):
            _settle_choice(port, inputs)
    known = {port.id: port for port in _live(declared, inputs)}
    for name in inputs.keys() - known.keys():
        del inputs[name]
    for name, port in known.items():
        if getattr(port, "default", None) is not None:
            inputs.setdefault(name, port.default)
    if not issubclass(node, SettledNode):
        return
    for name in node.dead_inputs(inputs):
        if name in inputs:
            default = getattr(known[name], "default", None)
            if default is None:
                del inputs[name]
            else:
                inputs[name] = default
    inputs.update(node.rewired(inputs, upstream))
    for name, why in node.refusals(inputs).items():
        kind = RefusedText if isinstance(known[name], io.String.Input) else Refused
        inputs[name] = kind(inputs[name], why)


def is_wire(value: Any) -> bool:
    """Whether a value of a prompt comes from another node."""
    return isinstance(value, list)


def numbers(inputs: Mapping[str, Any], *names: str) -> list[float] | None:
    """Values of the inputs `names`; `None` unless all are finite numbers, and known before the run."""
    try:
        values = [float(inputs[name]) for name in names]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return values if all(map(math.isfinite, values)) else None


def _settle_choice(port: io.DynamicCombo.Input, inputs: Inputs) -> None:
    if is_wire(inputs.setdefault(port.id, "")):
        why = f"{port.id} decides which inputs there are and cannot come over a wire. Choose it at the node."
        inputs[port.id] = Refused("a wire", why)
    nested = {each.id for option in port.options for each in option.inputs}
    for name in nested & inputs.keys():
        inputs.setdefault(f"{port.id}.{name}", inputs.pop(name))


def _live(declared: Iterable[Any], inputs: Mapping[str, Any]) -> Iterator[Any]:
    """The declared inputs, those of chosen options and those that grow, each under its full name."""
    for port in declared:
        yield port
        if isinstance(port, io.DynamicCombo.Input):
            chosen = [option for option in port.options if option.key == inputs[port.id]]
            yield from (_Nested(f"{port.id}.{each.id}", each) for option in chosen for each in option.inputs)
        elif isinstance(port, io.Autogrow.Input):
            yield from (_Nested(f"{port.id}.{each.id}", each) for each in port.template.get_all())


class _Nested:
    def __init__(self, name: str, port: Any):
        self.id, self.default, self.optional = name, getattr(port, "default", None), port.optional
