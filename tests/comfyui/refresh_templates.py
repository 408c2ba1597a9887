"""Write what follows from the templates: their API form in ``workflows/api``.

Not a test, but run like one (``python -m pytest tests/comfyui/refresh_templates.py``) after a template or a node has
changed: it needs the running server's node definitions.
"""

from typing import Any

from comfyui.workflows import TEMPLATES, api_path, api_text, to_prompt


def test_refresh_templates(object_info: dict[str, Any]) -> None:
    for template in TEMPLATES:
        api_path(template).write_text(api_text(to_prompt(template, object_info)), encoding="utf-8")
