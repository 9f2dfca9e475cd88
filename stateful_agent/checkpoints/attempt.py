"""One request's attempt at a turn, as other processes can find it. Clients send a request again by themselves."""

import asyncio
import uuid
from typing import Any, Self
from uuid import UUID


class Attempt:
    """Tells a request from others: by the id of its response, and a digest of its body.

    Both are recorded beside the lease on the thread, so that a duplicate of the request finds this one's run.
    """

    def __init__(self, response_id: str, digest: bytes, *, is_retry: bool = False, is_recorded: bool = True) -> None:
        """`is_retry`: the client has sent it before. Unless it `is_recorded`, duplicates of it do not find it."""
        self.response_id, self.digest = response_id, digest
        self.is_retry, self.is_recorded = is_retry, is_recorded
        self.thread_id = ""
        self.holder: UUID | None = None
        self.is_begun = False
        """Whether it has its thread and is known to be good. What fails later has left something in the thread."""
        self.is_accepted = asyncio.Event()
        """Whether it has begun, or waits for its thread."""

    @classmethod
    def unrecorded(cls) -> Self:
        """The attempt of a request that nobody sends twice."""
        return cls(f"resp_{uuid.uuid4().hex}", b"", is_recorded=False)

    def again(self) -> Self:
        """The same request under another id, which follows from this one: the run of this one never began, for good."""
        name = uuid.uuid5(UUID(self.response_id.removeprefix("resp_")), "again")
        return type(self)(f"resp_{name.hex}", self.digest, is_retry=self.is_retry)

    def new_thread_id(self) -> str:
        """The id of a thread that the request begins: a second attempt with the same key finds the first's."""
        return str(UUID(self.response_id.removeprefix("resp_")) if self.is_recorded else uuid.uuid4())

    def record(self, thread_id: str, holder: UUID) -> None:
        """It has its thread, or waits for it: from now on others can find it."""
        if self.is_recorded:
            self.thread_id, self.holder = thread_id, holder

    def begin(self) -> None:
        """It has its thread, and is known to be good."""
        self.is_begun = True
        self.is_accepted.set()

    def parameters(self) -> dict[str, Any]:
        """What the statements that take a thread record of it."""
        if not self.is_recorded:
            return {"response_id": None, "digest": None, "is_retry": False}
        return {"response_id": self.response_id, "digest": self.digest, "is_retry": self.is_retry}
