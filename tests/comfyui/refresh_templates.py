"""Write what follows from elsewhere: model files and version in the templates, the templates' API form.

Not a test, but run like one (``python -m pytest tests/comfyui/refresh_templates.py``) after a template or a node has
changed: it needs the running server's node definitions.
"""

from typing import Any

from comfyui.template_files import completed
from comfyui.workflows import TEMPLATES, api_path, api_text, to_prompt


def test_refresh_templates(object_info: dict[str, Any]) -> None:
    for template in TEMPLATES:
        template.write_text(completed(template), encoding="utf-8")
        api_path(template).write_text(api_text(to_prompt(template, object_info)), encoding="utf-8")
