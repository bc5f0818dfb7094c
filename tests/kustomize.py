"""As much of kustomize as `docker/kubernetes` uses, for machines that have none.

No package carries the real one. Where it is installed, as `kustomize` or within `kubectl`, the tests look at what it
makes of the overlays too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Resource = dict[str, Any]
Build = Callable[[Path], list[Resource]]

_KNOWN = {"apiVersion", "kind", "resources", "components", "configMapGenerator", "images", "patches"}


def build(folder: Path) -> list[Resource]:
    """What the kustomization in a folder comes to; raises for what is missing, or matches nothing."""
    resources: list[Resource] = []
    generated: dict[str, str] = {}
    _accumulate(folder, resources, generated)
    for one in resources:
        _rename_maps(one, generated)
    return resources


def _accumulate(folder: Path, resources: list[Resource], generated: dict[str, str]) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert kustomization.keys() <= _KNOWN
    for name in kustomization.get("resources", ()):
        if (folder / name).is_dir():
            _accumulate(folder / name, resources, generated)
        else:
            resources.extend(yaml.safe_load_all((folder / name).read_text()))
    for name in kustomization.get("components", ()):
        _accumulate(folder / name, resources, generated)
    for given in kustomization.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text() for name in given["files"]}
        # Another hash than kustomize's, to the same end.
        suffix = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:10]
        generated[given["name"]] = f"{given['name']}-{suffix}"
        resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": given["name"]}, "data": data})
    for image in kustomization.get("images", ()):
        for container in (one for resource in resources for one in _containers(resource)):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for patch in kustomization.get("patches", ()):
        text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text()
        wanted = (patch["target"]["kind"], patch["target"]["name"])
        [place] = [i for i, one in enumerate(resources) if (one["kind"], one["metadata"]["name"]) == wanted]
        resources[place] = jsonpatch.apply_patch(resources[place], yaml.safe_load(text))


def _containers(resource: Resource) -> list[dict[str, Any]]:
    return resource["spec"]["template"]["spec"]["containers"] if resource["kind"] == "Deployment" else []


def _rename_maps(one: Resource, generated: dict[str, str]) -> None:
    if one["kind"] == "ConfigMap":
        one["metadata"]["name"] = generated[one["metadata"]["name"]]
    if one["kind"] == "Deployment":
        for volume in one["spec"]["template"]["spec"]["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = generated[volume["configMap"]["name"]]


def _run(*command: str) -> Build:
    def run(folder: Path) -> list[Resource]:
        ended = subprocess.run([*command, folder], capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        return list(yaml.safe_load_all(ended.stdout))

    return run


BUILDERS: dict[str, Build] = {"stand-in": build}
"""By name, whatever builds here."""
for _command in (("kustomize", "build"), ("kubectl", "kustomize")):
    if shutil.which(_command[0]):
        BUILDERS[_command[0]] = _run(*_command)
