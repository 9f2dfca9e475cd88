"""A stand-in for Unity Catalog, as MLflow's registry asks for it over HTTP, and for the files of its models."""

import re
from pathlib import Path
from typing import Any


class Refused(Exception):
    """An error that the workspace answers with."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnityCatalog:
    """Registered models with their versions, aliases and files."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, dict[str, Any]]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.files: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What the API answers, `None` for what it does not have."""
        path = path.removeprefix("mlflow/unity-catalog/")
        match method, path, body:
            case "GET", "registered-models:is-databricks-sdk-models-artifact-repository-enabled", _:
                return {"is_databricks_sdk_models_artifact_repository_enabled": True}
            case "POST", "registered-models/create", {"name": str(name)}:
                if name in self.models:
                    raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Registered model '{name}' already exists.")
                if not name.startswith("main."):
                    raise Refused(403, "PERMISSION_DENIED", "User does not have CREATE MODEL on Schema.")
                self.models[name] = {}
                return {"registered_model": {"name": name}}
            case "GET", "registered-models/get", {"name": str(name)}:
                aliases = [{"alias": one, "version": to} for (of, one), to in self.aliases.items() if of == name]
                return {"registered_model": {"name": name, "aliases": aliases}}
            case "POST", "model-versions/create", {"name": str(name)}:
                version = str(len(self.models[name]) + 1)
                about = {"status": "PENDING_REGISTRATION", "run_id": "", "storage_location": ""}
                self.models[name][version] = about | {"name": name, "version": version, "source": body["source"]}
                return {"model_version": self.models[name][version]}
            case "POST", "model-versions/finalize", {"name": str(name), "version": str(version)}:
                self.models[name][version]["status"] = "READY"
                return {"model_version": self.models[name][version]}
            case "POST", "model-versions/emit-lineage", _:
                return {"name": ""}
            case "GET", "model-versions/get", {"name": str(name), "version": str(version)}:
                return {"model_version": self.version(name, version)}
            case "GET", "model-versions/search", {"filter": str(query)}:
                found = self.models.get(query.split("'")[1], {})
                return {"model_versions": list(found.values())}
            case "POST", "registered-models/alias", {"name": str(name), "alias": str(alias), "version": str(version)}:
                self.aliases[name, alias] = version
                return {"name": ""}
            case "GET", "registered-models/alias", {"name": str(name), "alias": str(alias)}:
                return {"model_version": self.version(name, self.aliases.get((name, alias), alias))}
        return None

    def add(self, name: str, model: Path) -> None:
        """Register what is in a folder, as MLflow does with a model that no tracking server knows."""
        version = str(len(self.models.setdefault(name, {})) + 1)
        self.models[name][version] = {"name": name, "version": version, "status": "READY", "source": str(model)}
        for file in model.rglob("*"):
            if file.is_file():
                path = f"/Models/{name.replace('.', '/')}/{version}/{file.relative_to(model)}"
                self.files[path] = re.sub(rb"(?m)^model_id: .*\n", b"", file.read_bytes())

    def version(self, name: str, version: str) -> dict[str, Any]:
        if version not in self.models.get(name, {}):
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"There is no {name}, version {version}.")
        return self.models[name][version]

    def folder(self, path: str) -> list[dict[str, Any]] | None:
        """What is in a folder of files, `None` if it is not there."""
        below = [file for file in self.files if file.startswith(f"{path}/")]
        names = {file.removeprefix(f"{path}/").partition("/")[0] for file in below}
        entries = [
            {"path": f"{path}/{name}", "is_directory": (found := self.files.get(f"{path}/{name}")) is None}
            | {"name": name, "file_size": len(found or b"")}
            for name in sorted(names)
        ]
        return entries or None
