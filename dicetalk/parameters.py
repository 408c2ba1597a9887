"""Description of a parameter, stated once, on the field that holds it.

    @dataclass(frozen=True)
    class Settings:
        steps: int = parameter(25, "denoising steps; fewer are faster and rougher", low=1, high=1000)

The command line, the nodes, the documents and the check of a value are made from this, or tested against it.
"""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args

from dicetalk.errors import SettingError

Ramp = float | tuple[float, float]
"""A number, or its values at the first and the last step."""

HIGHEST_VOICE = 2.0
"""Factor on a number that follows the voice, where the voice is loudest."""

MAX_VALUES = 100_000
"""Of a parameter over time: more than an hour at 25 fps."""


@dataclass(frozen=True)
class FromVoice:
    """A number that follows loudness and pace of the voice (:mod:`dicetalk.motion.parse`).

    Args:
        base: for the speaker's ordinary voice; the parameter's default if `None`.
    """

    base: float | None = None


Timed = float | tuple[float, ...] | FromVoice
"""A number; a number for each of the model's frames, the last one held; or one that follows the voice."""


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Args:
        name: of the field.
        kind: ``bool``, ``int``, ``float``, ``str``, :data:`Ramp` or :data:`Timed`; of a field that may be `None`, the
            other type.
        default: value where nothing is given.
        help: what it does, in English, without a full stop; the unit comes first where there is one.
        low: smallest value.
        high: largest value.
        step: by which a number in a node goes up.
        unit: of the value, for example ``bytes``.
        choices: the values of a ``str``.
        rare: nodes show it among the advanced inputs.
        in_preset: presets fix it, so that a node shows it only without one.
        of_preset: a preset of :mod:`dicetalk.presets` may fix it, so that a command leaves it open unless it is given.
        of_model: the default is what the loaded model was made for, and `default` only the release's.
        as_input: name of the node's input, where another one has `name` already.
        of_file: it is about a file that is written, which the nodes leave to ComfyUI's own.
        nothing: what `None` means, for one that may be left open; a node has 0 for it.
        off: option that switches a ``bool`` off, for one that is on by default, and what that does.
    """

    name: str
    kind: Any
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    rare: bool = False
    in_preset: bool = False
    of_model: bool = False
    of_preset: bool = False
    as_input: str = ""
    of_file: bool = False
    nothing: str = ""
    off: tuple[str, str] = ("", "")

    @property
    def input_name(self) -> str:
        """Name of a node's input."""
        return self.as_input or self.name

    def check(self, value: Any) -> None:
        """Raise :class:`SettingError` unless `value` is one of this parameter."""
        if self.nothing and value is None:
            return
        if self.choices and value not in self.choices:
            raise SettingError(f"{self.name} {value!r} is unknown. Choose one of: {', '.join(self.choices)}.")
        if self.low is None or self.high is None:
            return
        kinds = int if self.kind is int else (int, float)
        for number in self._numbers(value):
            # NaN is in no range.
            if not isinstance(number, kinds) or isinstance(number, bool) or not self.low <= number <= self.high:
                kind = "a whole number" if self.kind is int else "a number"
                raise SettingError(
                    f"{self.name} is {number!r}: give {kind} from {_short(self.low)} to {_short(self.high)}."
                )

    def _numbers(self, value: Any) -> tuple[Any, ...]:
        """The numbers of `value` that must be in the range."""
        if self.kind == Timed and isinstance(value, FromVoice):
            if not isinstance(value.base, (int, float)):
                return () if value.base is None else (value.base,)
            return value.base, value.base * HIGHEST_VOICE
        if self.kind == Timed and isinstance(value, tuple) and not 0 < len(value) <= MAX_VALUES:
            raise SettingError(f"{self.name} has {len(value)} values: give 1 to {MAX_VALUES}, one for each frame.")
        return value if self.kind in (Ramp, Timed) and isinstance(value, tuple) else (value,)


def _short(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def parameter(default: Any, help: str, **known: Any) -> Any:
    """A dataclass field with what is known of it, see :class:`Parameter`."""
    return field(default=default, metadata={"help": help, **known})


def parameters(settings: type) -> Iterator[Parameter]:
    """The parameters of a dataclass, in their order.

    Raises:
        TypeError: a field was not made by :func:`parameter`, so that nothing could show it.
    """
    for each in fields(settings):
        if "help" not in each.metadata or each.default is MISSING:
            raise TypeError(f"{settings.__name__}.{each.name} is not described: make it with parameter().")
        kind = get_args(each.type)[0] if "nothing" in each.metadata else each.type  # T of T | None
        yield Parameter(each.name, kind, each.default, **each.metadata)


def check_parameters(settings: Any) -> None:
    """Raise :class:`SettingError` for the first value of `settings` that its parameter does not allow."""
    for each in parameters(type(settings)):
        each.check(getattr(settings, each.name))
