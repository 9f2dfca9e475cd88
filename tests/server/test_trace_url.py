from collections.abc import Iterator

import mlflow
import pytest

from stateful_agent.server.trace_url import trace_url


@pytest.fixture(autouse=True)
def tracking_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "DATABRICKS_HOST"):
        monkeypatch.delenv(name, raising=False)
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("uri", "environment", "url"),
    [
        (
            "http://mlflow:5000",
            {"MLFLOW_EXPERIMENT_ID": "7"},
            "http://mlflow:5000/#/experiments/7/traces?selectedEvaluationId=tr-1",
        ),
        ("http://mlflow:5000", {}, "http://mlflow:5000/#/experiments/0/traces?selectedEvaluationId=tr-1"),
        ("http://mlflow:5000", {"MLFLOW_EXPERIMENT_NAME": "ours"}, None),
        ("https://ann:secret@host/path/", {}, "https://host/path/#/experiments/0/traces?selectedEvaluationId=tr-1"),
        (
            "databricks",
            {"MLFLOW_EXPERIMENT_ID": "7", "DATABRICKS_HOST": "https://adb-1.azuredatabricks.net/"},
            "https://adb-1.azuredatabricks.net/ml/experiments/7/traces?selectedEvaluationId=tr-1",
        ),
        (
            "databricks",
            {"MLFLOW_EXPERIMENT_ID": "7", "DATABRICKS_HOST": "adb-1.azuredatabricks.net"},
            "https://adb-1.azuredatabricks.net/ml/experiments/7/traces?selectedEvaluationId=tr-1",
        ),
        ("databricks", {"DATABRICKS_HOST": "adb-1.azuredatabricks.net"}, None),
        ("databricks", {"MLFLOW_EXPERIMENT_ID": "7"}, None),
        ("sqlite:///mlflow.db", {"MLFLOW_EXPERIMENT_ID": "7"}, None),
    ],
)
def test_where_mlflow_shows_a_trace(
    monkeypatch: pytest.MonkeyPatch, uri: str, environment: dict[str, str], url: str | None
) -> None:
    mlflow.set_tracking_uri(uri)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert trace_url("tr-1") == url
