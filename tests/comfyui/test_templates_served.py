"""Templates as the browser asks the running server for them."""

import io
import json
import urllib.request

from comfyui.server import PACK_FOLDER, Server
from comfyui.workflows import TEMPLATES
from PIL import Image


def test_the_server_lists_every_template_once(server: Server) -> None:
    listed = server.get("/api/workflow_templates")[PACK_FOLDER]
    assert sorted(listed) == [template.stem for template in TEMPLATES]


def test_every_listed_template_and_its_thumbnail_are_served(server: Server) -> None:
    for name in server.get("/api/workflow_templates")[PACK_FOLDER]:
        address = f"/api/workflow_templates/{PACK_FOLDER}/{name}"
        saved = json.loads(fetch(server, f"{address}.json"))
        assert {"nodes", "links"} <= saved.keys()
        picture = Image.open(io.BytesIO(fetch(server, f"{address}.jpg")))
        assert picture.format == "JPEG" and min(picture.size) >= 256


def fetch(server: Server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        assert answer.status == 200
        return answer.read()
