"""What the README and docs/ tell to run."""

import re

from conftest import ROOT


def snippets(page: str, language: str) -> list[str]:
    """The blocks of a page that are in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
