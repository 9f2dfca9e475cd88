"""The statements, read from the files in `sql/`.

`sql/*.sql` hold the statements of one subject each, every one after a line `-- name: ...`. `sql/functions/*.sql` hold
those that every turn runs, as functions of the database. Postgres plans a statement anew each time it is asked, which
takes longer than these take to run; of a function, each connection keeps the plan. It would still plan the first five
calls anew, to see whether it gains from knowing the values: here it does not. Prepared statements would do the same,
but not behind a proxy that pools transactions. And a plan that was made of guesses about how much is stored could read
whole tables, or be compiled anew at each call (`jit`): of a function these ways are barred, so that it takes the same
time however much others have stored.
"""

import functools
import hashlib
import re
from importlib.resources import files
from typing import LiteralString, cast

SQL = files(__package__) / "sql"


@functools.cache
def statements(subject: str) -> dict[str, LiteralString]:
    """The statements in the file of a subject, by name, with parameters as psycopg knows them: `%(name)s`."""
    _, *parts = re.split(r"^-- name: (\w+)\n", _read(f"{subject}.sql"), flags=re.MULTILINE)
    return {name: cast(LiteralString, text.strip()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


@functools.cache
def migrations() -> dict[int, LiteralString]:
    """Our migrations, by number."""
    names = sorted(file.name for file in (SQL / "migrations").iterdir() if file.name.endswith(".sql"))
    return {int(name.split("_")[0]): _read(f"migrations/{name}") for name in names}


class Function:
    """A statement that is a function of the database.

    Its name there ends with a digest of its text: processes of two versions may share a database for a while, and each
    finds its own.
    """

    def __init__(self, name: str, text: str) -> None:
        """`text` creates the function `name`, whose parameters begin with an underscore."""
        self.name = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.definition = re.sub(rf"\b{name}\b", self.name, text)
        signature = re.search(rf"FUNCTION {name}\((.*?)\)\s*RETURNS", text, re.DOTALL)
        assert signature
        parameters = [parameter.split() for parameter in signature[1].split(",")]
        values = ", ".join(f"%({parameter.removeprefix('_')})b::{kind}" for parameter, kind in parameters)
        self.call = f"SELECT * FROM {self.name}({values})"
        """The statement that calls it, with its parameters by their names without the underscore."""


@functools.cache
def functions() -> dict[str, Function]:
    """The functions, by the names that their files give them; one that calls another comes after it."""
    texts = {file.name.removesuffix(".sql"): file.read_text() for file in (SQL / "functions").iterdir()}
    found: dict[str, Function] = {}

    def add(name: str) -> Function:
        if name not in found:
            others = "|".join(other for other in texts if other != name)
            text = re.sub(rf"\b({others})\b(?=\()", lambda call: add(call[0]).name, texts[name])
            found[name] = Function(name, text)
        return found[name]

    for name in sorted(texts):
        add(name)
    return found


def _read(name: str) -> LiteralString:
    return (SQL / name).read_text()
