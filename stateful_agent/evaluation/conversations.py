"""The conversations that an agent is evaluated with, as a YAML file has them."""

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

DEFAULT = Path(__file__).with_name("conversations.yaml")

Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class Turn(BaseModel):
    """What is said, and what the answer has to be like. The comment of `conversations.yaml` explains each key."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    input: str
    thread: str = "main"
    as_: str | None = Field(default=None, alias="as")
    from_: str | None = Field(default=None, alias="from")
    checkpoint_id: str | None = None
    contains: Texts = ()
    lacks: Texts = ()
    refused: str | None = None


class Conversation(BaseModel):
    """Turns on one or more threads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    turns: tuple[Turn, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        known: set[str | None] = {None}
        for turn in self.turns:
            if turn.from_ not in known:
                raise ValueError(f"no turn before this one is named {turn.from_}")
            known.add(turn.as_)
        return self


class Goal(BaseModel):
    """What a simulated user wants, and who that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    goal: str
    persona: str | None = None


class Conversations(BaseModel):
    """All that an agent is evaluated with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversations: tuple[Conversation, ...] = Field(min_length=1)
    goals: tuple[Goal, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [conversation.name for conversation in self.conversations]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two conversations are named {twice[0]}")
        return self


def read_conversations(file: Path) -> Conversations:
    """The conversations of a file.

    Raises:
        ValueError: it cannot be read, or does not have their form. The message says where.
    """
    try:
        found: Any = yaml.safe_load(file.read_text())
        return Conversations.model_validate(found)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}{', ' if place else ''}{place}: {first['msg']}.") from error
