"""What a server is started for is found, or one line explains why not."""

from pathlib import Path

import pytest

import stateful_agent
from stateful_agent.server.target import CannotServe, locate, other_code


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").touch()
    return folder


def test_a_file_and_a_folder_from_the_current_one(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_agent.py").touch()
    monkeypatch.chdir(model)
    assert locate("../my_agent.py") == tmp_path / "my_agent.py"
    assert locate("../model") == locate(".") == model


def test_a_uri(model: Path) -> None:
    assert locate(f"file://{model}") == model


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere.py", "There is no file nowhere.py."),
        ("nowhere", "There is no nowhere"),
        (".", "not a logged model: it has no file MLmodel"),
        ("models:/nowhere/1", "models:/nowhere/1 cannot be downloaded"),
        ("runs:/nowhere/model", "runs:/nowhere/model cannot be downloaded"),
        ("/nowhere/agent.py", "There is no file /nowhere/agent.py."),
    ],
)
def test_why_not(target: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotServe) as refused:
        locate(target)
    assert reason in str(refused.value)


class TestOtherCode:
    def test_of_a_model_with_a_copy_of_this_package(self, model: Path) -> None:
        server = model / "code" / "stateful_agent" / "server"
        server.mkdir(parents=True)
        with pytest.raises(CannotServe, match="log it again"):
            other_code(model)
        (server / "processes.py").touch()
        assert other_code(model) == model / "code"

    def test_not_of_the_copy_that_runs(self, model: Path) -> None:
        (model / "code").symlink_to(Path(stateful_agent.__file__).parent.parent)
        assert other_code(model) is None

    def test_not_of_a_model_that_stands_on_the_installed_package(self, model: Path) -> None:
        (model / "code").mkdir()
        assert other_code(model) is None
