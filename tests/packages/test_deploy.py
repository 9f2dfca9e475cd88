"""A model that cannot be served as its requirements say."""

from pathlib import Path

import pytest

from stateful_agent.deploy import Failure, check_served


def test_a_model_that_cannot_be_installed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "requirements.txt").write_text("no-such-package-anywhere==1\n")
    with pytest.raises(Failure, match=r"requirements cannot be installed: .*no-such-package-anywhere"):
        check_served(str(tmp_path / "model"), print)
