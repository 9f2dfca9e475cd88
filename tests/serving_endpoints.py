"""A stand-in for Databricks' model serving: endpoints that come up as they are looked at, and the agents' registry."""

from collections.abc import Callable
from typing import Any

from unity_catalog import Refused

Entity = dict[str, Any]

STEPS = ("DEPLOYMENT_CREATING", "DEPLOYMENT_CREATING", "DEPLOYMENT_READY")
"""What a version's state is as it is looked at, one after the other."""


class ServingEndpoints:
    """Endpoints, each with what it serves. `start` serves an entity for real, and returns its URL."""

    def __init__(self, start: Callable[[Entity], str]) -> None:
        self.start = start
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.deployments: list[dict[str, Any]] = []
        self.urls: dict[tuple[str, str], str] = {}
        self.build_fails = False

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What the API answers, `None` for what it does not have."""
        match method, path.split("/"), body:
            case "POST", ["serving-endpoints"], {"name": str(name), "config": config}:
                if name in self.endpoints:
                    raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Endpoint with name '{name}' already exists.")
                about = {key: body.get(key) for key in ("tags", "budget_policy_id", "description") if body.get(key)}
                self.endpoints[name] = {"name": name, "state": {"ready": "NOT_READY"}} | about
                self._update(self.endpoints[name], config)
                return self.endpoints[name]
            case "GET", ["serving-endpoints", "e"], _:  # of a model
                return {"name": "e", "state": {"ready": "READY", "config_update": "NOT_UPDATING"}}
            case "GET", ["serving-endpoints", name], _:
                return self._advance(self._endpoint(name))
            case "PUT", ["serving-endpoints", name, "config"], _:
                endpoint = self._endpoint(name)
                if endpoint["state"]["config_update"] == "IN_PROGRESS":
                    raise Refused(409, "RESOURCE_CONFLICT", f"Endpoint {name} is updating.")
                served = [one["entity_version"] for one in body["served_entities"]]
                if len(set(served)) < len(served):
                    raise Refused(400, "BAD_REQUEST", "Cannot create 2+ served entities with the same version.")
                self._update(endpoint, body)
                return endpoint
            case "PATCH", ["serving-endpoints", name, "tags"], _:
                return {"tags": self._endpoint(name).setdefault("tags", body.get("add_tags", []))}
            case "DELETE", ["serving-endpoints", name], _:
                del self.endpoints[name]
                return {"deleted": name}
            case "GET", ["serving-endpoints", name, "served-models", _, "build-logs"], _:
                words = "ERROR: No matching distribution found for nothing==1" if self.build_fails else "Installed."
                return {"logs": f"{self._endpoint(name)['name']}: {words}"}
            case "GET", ["serving-endpoints", _, "served-models", _, "logs"], _:
                return {"logs": "Uvicorn running."}
            case "POST", ["agents", "deployments"], _:
                self.deployments.append(body | {"review_app_url": "https://workspace/ml/review-v2/chat"})
                return {"deployed_chain": self.deployments[-1]}
            case "GET" | "DELETE", ["agents", "deployments", model, *version], _:
                number = version[-1] if version else None
                found = [one for one in self.deployments if one["model_name"] == model]
                found = [one for one in found if number in (None, str(one["model_version"]))]
                if method == "DELETE":
                    self.deployments = [one for one in self.deployments if one not in found]
                return {"chain_deployments": found}
        return None

    def url_of(self, name: str) -> str:
        """Where what gets an endpoint's traffic is."""
        routes = self._endpoint(name)["config"]["traffic_config"]["routes"]
        served = next(route["served_model_name"] for route in routes if route["traffic_percentage"] == 100)
        return self.urls[name, served]

    def _endpoint(self, name: str) -> dict[str, Any]:
        if name not in self.endpoints:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"The endpoint with name '{name}' does not exist.")
        return self.endpoints[name]

    def _update(self, endpoint: dict[str, Any], config: dict[str, Any]) -> None:
        ready = {one["entity_version"]: one for one in self._served(endpoint)}
        for entity in config["served_entities"]:
            before = ready.get(entity["entity_version"])
            same = before and before.get("environment_vars") == entity.get("environment_vars")
            entity["state"] = before["state"] if before and same else {"deployment": STEPS[0], "step": 0}
        endpoint["pending_config"] = {key: config[key] for key in ("served_entities", "traffic_config")}
        endpoint["state"] |= {"config_update": "IN_PROGRESS"}

    def _served(self, endpoint: dict[str, Any]) -> list[Entity]:
        found: list[Entity] = endpoint.get("config", {}).get("served_entities", [])
        return found

    def _advance(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        if endpoint["state"]["config_update"] != "IN_PROGRESS":
            return endpoint
        entities = endpoint["pending_config"]["served_entities"]
        for entity in entities:
            state = entity["state"]
            if state["deployment"] != "DEPLOYMENT_READY":
                state["step"] += 1
                state["deployment"] = "DEPLOYMENT_FAILED" if self.build_fails else STEPS[state["step"]]
                state["deployment_state_message"] = "The container image is being built."
                if self.build_fails:
                    state["deployment_state_message"] = "Container image creation failed."
                    endpoint["state"]["config_update"] = "UPDATE_FAILED"
                if state["deployment"] == "DEPLOYMENT_READY":
                    state["deployment_state_message"] = ""
                    self.urls[endpoint["name"], entity["name"]] = self.start(entity)
        if all(entity["state"]["deployment"] == "DEPLOYMENT_READY" for entity in entities):
            endpoint["config"] = endpoint.pop("pending_config")
            endpoint["state"] = {"ready": "READY", "config_update": "NOT_UPDATING"}
        return endpoint
