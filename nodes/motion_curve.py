"""Motion Curve."""

from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io

from dicetalk.motion.parse import parse_motion
from dicetalk.settings import FPS

from .hooks import SHOWN_AGAIN, comfy_hooks, keeps_notices
from .wires import CATEGORY


class MotionCurve(io.ComfyNode):
    """A list of numbers to motion over time.

    ComfyUI runs a node once for each entry of a list, so that a list at DICE Sampler makes as many clips; this node
    takes all entries at once.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_MotionCurve",
            display_name="Motion Curve",
            category=CATEGORY,
            description="Makes motion over time out of a list of numbers, for DICE Sampler's motion_bucket and "
            "expression_bucket.",
            search_aliases=["motion bucket", "float list", "keyframes", "schedule"],
            **SHOWN_AGAIN,
            is_input_list=True,
            inputs=[
                io.Float.Input(
                    "values",
                    default=8.0,
                    min=0.0,
                    max=255.0,
                    force_input=True,
                    tooltip="A list of floats, for example of Create List, one after another in time.",
                ),
                io.Float.Input(
                    "fps",
                    default=FPS,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="How many of them there are in a second. The network has 12.5 frames; another rate is "
                    "brought to that.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "motion",
                    tooltip="A number for each frame of the network, in one value, for motion_bucket or "
                    "expression_bucket. The last one holds to the end.",
                ),
            ],
        )

    @classmethod
    @keeps_notices
    def execute(cls, values: list[Any], fps: list[float]) -> io.NodeOutput:
        """Gather the numbers, at the network's frame rate."""
        hooks = comfy_hooks({})
        if len(fps) > 1:
            hooks.notice(f"fps holds {len(fps)} values: the first, {fps[0]:g}, is used.")
        motion = list(parse_motion({"values": list(_flat(values)), "fps": fps[0]}))
        return io.NodeOutput(motion, ui=hooks.shown())


def _flat(values: list[Any]) -> Iterator[Any]:
    """Numbers of a list whose entries may be lists, as nodes that draw curves give them."""
    for each in values:
        if isinstance(each, (list, tuple)):
            yield from each
        else:
            yield each
