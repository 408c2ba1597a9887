"""Named choices between quality and time, counted in passes of the network for each frame.

``exact`` is what the model was made for. The others fix a few fields of :class:`dicetalk.settings.SamplerSettings`;
every field that is given beside a preset wins over it.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from dicetalk.errors import SettingError
from dicetalk.settings import SamplerSettings

EXACT, FAST, DRAFT = "exact", "fast", "draft"

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        EXACT: {},
        FAST: {"steps": 5, "schedule": "tight"},
        DRAFT: {"steps": 4, "guidance_every": 4, "schedule": "tight"},
    }
)
"""Fields that each preset fixes. `steps` is at most what the model was made for, and `schedule` replaces only
``reference``, whose padding costs one more window."""


def with_preset(settings: SamplerSettings, name: str) -> SamplerSettings:
    """What `settings`, which a model was made for, become under a preset.

    Raises:
        SettingError: there is no such preset.
    """
    if name not in PRESETS:
        raise SettingError(f"preset {name!r} is unknown. Choose one of: {', '.join(PRESETS)}.")
    fixed = dict(PRESETS[name])
    if "steps" in fixed:
        fixed["steps"] = min(fixed["steps"], settings.steps)
    if settings.schedule != "reference":
        fixed.pop("schedule", None)
    return replace(settings, **fixed)
