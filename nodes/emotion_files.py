"""Save Emotion and Load Emotion."""

from comfy_api.latest import io

from dicetalk.emotion.files import load_emotion, save_emotion

from .checks import verdict
from .folders import check_emotion_name, emotion_choices, emotion_path, new_emotion_path
from .wires import CATEGORY, Emotion, EmotionWire, HostedModel, ModelWire, check_emotion


class SaveEmotion(io.ComfyNode):
    """An emotion to a file in the emotions folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_SaveEmotion",
            display_name="Save Emotion",
            category=CATEGORY,
            description="Keeps an emotion for other workflows, in the emotions folder, as safetensors.",
            search_aliases=["emotion preset"],
            is_output_node=True,
            inputs=[
                ModelWire.Input("model", tooltip="The model that the emotion belongs to."),
                EmotionWire.Input(
                    "emotion",
                    tooltip="From Extract Emotion Prior, Emotion Bank Mix or a timeline, made with this model.",
                ),
                io.String.Input(
                    "name",
                    default="my emotion",
                    tooltip="Letters, digits, spaces and - _ . only; an emotion of that name is replaced.",
                ),
            ],
            outputs=[EmotionWire.Output("emotion_out", display_name="emotion", tooltip="The same emotion.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return verdict(lambda: name is None or check_emotion_name(name))

    @classmethod
    def execute(cls, model: HostedModel, emotion: Emotion, name: str) -> io.NodeOutput:
        """Write the emotion, and pass it on."""
        check_emotion(model, emotion, "emotion")
        save_emotion(emotion, new_emotion_path(name))
        return io.NodeOutput(emotion)


class LoadEmotion(io.ComfyNode):
    """An emotion from a file in the emotions folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_LoadEmotion",
            display_name="Load Emotion",
            category=CATEGORY,
            description="Reads an emotion that Save Emotion kept.",
            search_aliases=["emotion preset"],
            inputs=[
                ModelWire.Input(
                    "model", tooltip="The model that is to show the emotion; it must be the one it was made with."
                ),
                io.Combo.Input(
                    "name", options=emotion_choices(), tooltip="A file in the emotions folder; refresh to see new ones."
                ),
            ],
            outputs=[EmotionWire.Output("emotion", tooltip="For DICE Sampler or Emotion Bank Mix.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return verdict(lambda: name is None or emotion_path(name))

    @classmethod
    def fingerprint_inputs(cls, name: str | None, model: HostedModel | None = None) -> tuple[int, int]:
        """Read again when the file has changed; a name that comes over a wire is not known yet."""
        if name is None:
            return 0, 0
        stat = emotion_path(name).stat()
        return stat.st_mtime_ns, stat.st_size

    @classmethod
    def execute(cls, model: HostedModel, name: str) -> io.NodeOutput:
        """Read the emotion, if it is one of this model."""
        return io.NodeOutput(load_emotion(emotion_path(name), model.space))
