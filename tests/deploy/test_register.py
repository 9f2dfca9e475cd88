"""Registering a logged model, in Unity Catalog's stand-in and in MLflow's own registry."""

from pathlib import Path

import mlflow
import pytest
from workspace import Workspace

from stateful_agent.deploy import Failure, register, version_of

NAME = "main.agents.trips"


@pytest.fixture
def model(traced: None) -> str:
    """A logged model, a small one: what registers it does not look into it. MLflow 3.17 logs none without tracing."""

    class Small(mlflow.pyfunc.PythonModel):
        def predict(self, context: object, model_input: list[str]) -> list[str]:
            return model_input

    uri: str = mlflow.pyfunc.log_model(name="small", python_model=Small(), pip_requirements=[]).model_uri
    return uri


def test_in_unity_catalog(workspace: Workspace, model: str) -> None:
    assert register(model, NAME, "champion") == "1"
    assert f"/Models/{NAME.replace('.', '/')}/1/MLmodel" in workspace.catalog.files
    assert version_of(NAME, "champion") == version_of(NAME, "1") == version_of(NAME, None) == "1"
    assert mlflow.get_registry_uri() != "databricks-uc"


def test_the_same_model_keeps_its_version(workspace: Workspace, model: str) -> None:
    assert [register(model, NAME), register(model, NAME)] == ["1", "1"]


def test_another_model_is_a_new_version(workspace: Workspace, model: str, tmp_path: Path) -> None:
    register(model, NAME, "champion")
    another = mlflow.artifacts.download_artifacts(model, dst_path=str(tmp_path))
    (Path(another) / "MLmodel").write_text(
        (Path(another) / "MLmodel").read_text().replace("model_id: m-", "model_id: n-")
    )
    assert register(another, NAME, "champion") == "2"
    assert version_of(NAME, "champion") == version_of(NAME, None) == "2"


def test_in_mlflows_own_registry(model: str) -> None:
    assert register(model, "small", "champion") == register(model, "small") == "1"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("other.agents.trips", "does not have CREATE MODEL"), ("agents.trips", "is no name for a model")],
)
def test_what_is_refused(workspace: Workspace, model: str, name: str, reason: str) -> None:
    with pytest.raises((Failure, mlflow.MlflowException), match=reason):
        register(model, name)
    assert workspace.catalog.models == {}
