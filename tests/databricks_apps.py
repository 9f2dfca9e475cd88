"""A stand-in for Databricks Apps, and for the workspace's files that they are made of."""

from collections.abc import Callable
from email import policy
from email.parser import BytesParser
from subprocess import CalledProcessError
from typing import Any

import yaml
from unity_catalog import Refused

APP_USER = "5a1e0f0e-0000-4000-8000-000000000001"
"""Whom apps run as: what they log in to Postgres as, too."""

Files = dict[str, bytes]


class DatabricksApps:
    """Apps whose machines and deployments come up as they are looked at.

    `start` runs an app for real, and returns its URL. It is given the app's files by their paths, its command and its
    environment variables.
    """

    def __init__(self, start: Callable[[Files, list[str], dict[str, str]], str], secrets: dict[str, str]) -> None:
        self.start = start
        self.secrets = secrets
        self.apps: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, list[dict[str, Any]]] = {}
        self.files: Files = {}
        self.urls: dict[str, str] = {}
        self.base = ""
        """The workspace's URL."""

        self.build_fails = False
        self.crashes = False

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What the API answers, `None` for what it does not have."""
        match method, path.split("/"), body:
            case "POST", ["workspace", "mkdirs"], {"path": _}:
                return {}
            case "POST", ["workspace", "delete"], {"path": str(folder)}:
                gone = [name for name in self.files if name.startswith(f"{folder}/")]
                if not gone:
                    raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({folder}) doesn't exist.")
                for name in gone:
                    del self.files[name]
                return {}
            case "POST", ["apps"], {"name": str(name)}:
                if name in self.apps:
                    raise Refused(409, "ALREADY_EXISTS", f"An app with the same name already exists: {name}")
                status = {"compute_status": {"state": "STARTING"}, "app_status": {"state": "UNAVAILABLE"}}
                url = {"url": f"{self.base}/apps-proxy/{name}"}
                self.apps[name] = body | status | url | {"service_principal_client_id": APP_USER}
                self.deployments[name] = []
                return self.apps[name]
            case "GET", ["apps", name], _:
                app = self._app(name)
                found = dict(app)
                app["compute_status"] = (
                    {"state": "ACTIVE"} if app["compute_status"]["state"] == "STARTING" else (app["compute_status"])
                )
                return found
            case "PATCH", ["apps", name], _:
                self._app(name).update(body)
                return self._app(name)
            case "POST", ["apps", name, "start"], _:
                self._app(name)["compute_status"] = {"state": "STARTING"}
                return self._app(name)
            case "DELETE", ["apps", name], _:
                return self.apps.pop(self._app(name)["name"])
            case "GET", ["apps", name, "deployments"], _:
                return {"app_deployments": self.deployments[self._app(name)["name"]][::-1]}
            case "POST", ["apps", name, "deployments"], {"source_code_path": str(source)}:
                return self._deploy(self._app(name), source)
            case "GET", ["apps", name, "deployments", which], _:
                return self._advance(self._app(name), which)
        return None

    def put(self, content_type: str, content: bytes) -> None:
        """Keep a file that is uploaded as a form."""
        form = BytesParser(policy=policy.HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content)
        parts: dict[Any, Any] = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in form.iter_parts()
        }
        assert parts["format"] == b"RAW"
        self.files[parts["path"].decode()] = parts["content"]

    def _app(self, name: str) -> dict[str, Any]:
        if name not in self.apps:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"App with name {name} does not exist or is deleted.")
        return self.apps[name]

    def _deploy(self, app: dict[str, Any], source: str) -> dict[str, Any]:
        if app["compute_status"]["state"] != "ACTIVE":
            raise Refused(400, "BAD_REQUEST", "Cannot deploy app as its compute is not active.")
        if "pending_deployment" in app:
            raise Refused(409, "RESOURCE_CONFLICT", "There is an active deployment in progress.")
        status = {"state": "IN_PROGRESS", "message": "Installing packages"}
        deployment: dict[str, Any] = {
            "deployment_id": f"d{len(self.deployments[app['name']])}",
            "source_code_path": source,
        }
        deployment |= {"status": status, "create_time": "2026-11-29T00:00:00Z"}
        self.deployments[app["name"]].append(deployment)
        app["pending_deployment"] = deployment
        return deployment

    def _advance(self, app: dict[str, Any], which: str) -> dict[str, Any]:
        deployment = next(one for one in self.deployments[app["name"]] if one["deployment_id"] == which)
        told = dict(deployment)
        if app.get("pending_deployment") == deployment:
            del app["pending_deployment"]
            if self.build_fails:
                deployment["status"] = {"state": "FAILED", "message": "Error installing packages"}
                return told
            try:
                self.urls[app["name"]] = self.start(*self._source(app, deployment["source_code_path"]))
            except (AssertionError, CalledProcessError) as error:
                deployment["status"] = {"state": "FAILED", "message": f"The app crashed: {error!r}"}
                return told
            deployment["status"] = {"state": "SUCCEEDED", "message": "App started successfully"}
            app["active_deployment"] = deployment
            app["app_status"] = {"state": "CRASHED", "message": "exit code 1"} if self.crashes else {"state": "RUNNING"}
        return told

    def _source(self, app: dict[str, Any], path: str) -> tuple[Files, list[str], dict[str, str]]:
        files = {name[len(path) + 1 :]: text for name, text in self.files.items() if name.startswith(f"{path}/")}
        described = yaml.safe_load(files["app.yaml"])
        resources = {resource["name"]: resource for resource in app["resources"]}
        environment = {}
        for variable in described["env"]:
            if "valueFrom" in variable:
                secret = resources[variable["valueFrom"]]["secret"]
                environment[variable["name"]] = self.secrets[f"{secret['scope']}/{secret['key']}"]
            else:
                environment[variable["name"]] = variable["value"]
        return files, described["command"], environment
