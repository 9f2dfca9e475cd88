"""What a logged model needs to be installed: the project's own requirements, and those of this library.

`stateful-agent` itself is not among them: it travels in the model as code, and only what it stands on is installed.
"""

import re
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stateful_agent.deploy.check_program import closure, parsed
from stateful_agent.deploy.failure import Failure
from stateful_agent.settings import Settings

LIBRARY = "stateful-agent"
NAMES_THE_LIBRARY = re.compile(r"(?:^|[/\\=])stateful[-_.]agent(?:$|[-.@#\[/\\])", re.IGNORECASE)


def requirements_of(agent_file: Path, file: Path | None, settings: Settings) -> tuple[list[str], list[str]]:
    """What an agent with these settings needs installed, as `model_requirements`, whose `file` is by default the
    `requirements.txt` beside the agent's, if there is one."""
    if file is None and agent_file.with_name("requirements.txt").is_file():
        file = agent_file.with_name("requirements.txt")
    return model_requirements(file, extras_for(settings))


def extras_for(settings: Settings) -> set[str]:
    """The extras of ours that an agent with these settings needs."""
    from stateful_agent.database import lakebase  # these take seconds, for which `--help` should not wait
    from stateful_agent.memory.embeddings import EMBEDDING_PROVIDERS  # of which those of models are a part

    models = [settings.agent_model, *settings.agent_fallback_models, settings.embedding_model]
    providers = {model.partition(":")[0] for model in models if model}
    extras = {EMBEDDING_PROVIDERS[provider][1] for provider in providers & EMBEDDING_PROVIDERS.keys()}
    extras |= {"mcp"} if settings.mcp_servers else set()
    extras |= {"tavily"} if settings.tavily_api_key else set()
    in_workspace = (*settings.uc_functions, *settings.genie_spaces, *settings.vector_search_indexes)
    return extras | ({"databricks"} if in_workspace or lakebase.location_of(settings) else set())


def model_requirements(file: Path | None, extras: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """The requirements of a model, one a line, and notes for people on what was left out of the project's own `file`.

    A package that the file names stays as it is there; what the library needs besides is added in its installed
    version, with these `extras` and those that the file names.

    Raises:
        Failure: the file cannot be read, or the library is not installed.
    """
    lines: list[str] = []
    notes: list[str] = []
    extras = set(extras)
    if file is None:
        notes.append("There is no requirements file: only what stateful-agent itself needs is noted in the model.")
    for line in _lines(file) if file else ():
        requirement = _parsed(line)
        if (requirement and canonicalize_name(requirement.name) == LIBRARY) or (
            not requirement and NAMES_THE_LIBRARY.search(line.split("#egg=")[0].rstrip("/"))
        ):
            extras |= requirement.extras if requirement else set()
        elif _is_local(line, requirement):
            notes.append(f"Left out of the requirements, as it is only on this machine: {line}")
        else:
            lines.append(line)
    named = {canonicalize_name(found.name) for line in lines if (found := _parsed(line))}
    own = [one for name, one in _own(extras).items() if name not in named]
    return [*lines, *(f"{_with_extras(one)}=={version(one.name)}" for one in own)], notes


def constraints_of(lines: list[str]) -> list[str]:
    """The versions that are installed here of all that requirements bring along, one a line.

    With them, an installer has nothing to choose: what is installed elsewhere is what runs here, and pip does not try
    one version after the other for minutes. There are none if the requirements have constraints of their own, or name
    what is not installed here so.
    """
    if any(line.startswith("-c ") for line in lines):
        return []
    named = {}
    for line in lines:
        if line.startswith("-"):
            continue
        requirement = parsed(line)
        if requirement is None or (requirement.marker and not requirement.marker.evaluate()):
            continue
        named[canonicalize_name(requirement.name)] = requirement
    brought = closure(lines)
    if brought is None or not all(_is_installed_so(requirement) for requirement in named.values()):
        return []
    installed: dict[str, Distribution] = {canonicalize_name(one.name): one for one in distributions() if one.name}
    return [
        f"{name}=={installed[name].version}"
        for name in sorted(brought & installed.keys() - named.keys())
        if "+" not in installed[name].version  # one that was built for this machine
    ]


def _is_installed_so(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _own(extras: set[str]) -> dict[str, Requirement]:
    """What the library needs on this machine with these extras, by canonical names."""
    try:
        declared = [Requirement(line) for line in distribution(LIBRARY).requires or []]
    except PackageNotFoundError as error:
        raise Failure("stateful-agent is not installed: pip install it, or `pip install -e` its folder.") from error
    found: dict[str, Requirement] = {}
    for requirement in declared:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            name = canonicalize_name(requirement.name)
            # An extra can be made of others.
            found |= _own(requirement.extras) if name == LIBRARY else {name: requirement}
    return found


def _with_extras(requirement: Requirement) -> str:
    return requirement.name + (f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else "")


def _lines(file: Path) -> Iterator[str]:
    """The lines of a requirements file and of those that it refers to, without comments."""
    try:
        text = file.read_text()
    except OSError as error:
        raise Failure(f"The requirements cannot be read: {file}: {error.strerror}.") from error
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if referred := re.match(r"(?:-r|--requirement)[\s=]*(.+)", line):
            yield from _lines(file.parent / referred[1])
        elif referred := re.match(r"(?:-c|--constraint)[\s=]*(.+)", line):
            yield f"-c {(file.parent / referred[1]).resolve()}"
        elif line:
            yield line


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(re.split(r"\s--?\w", line)[0])  # without options, such as --hash
    except InvalidRequirement:
        return None


def _is_local(line: str, requirement: Requirement | None) -> bool:
    if requirement:
        return bool(requirement.url and requirement.url.startswith("file:"))
    path = re.sub(r"^(-e|--editable)[\s=]*", "", line)
    return not path.startswith("-") and ("://" not in path or path.startswith("file:"))
