"""Clients that talk, go away, go back and edit; each tries again what it did not hear to be done."""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
from served import Server

from soak.notes import Attempt

MANNERS = ("", "", "", "", "", "think", "slowly", "call fast", "call fast slow fast", "call broken fast")
PATIENCE = 60
"""Seconds in which a client that was still trying at the end must succeed."""
TRY_AGAIN = {409, 429, 503}
TRY_AGAIN_CODES = {"storage_unavailable", "shutting_down", "thread_busy", "turn_gone", "turn_overtaken"}


class NotDone(Exception):
    """The client received no acknowledgement, and it may try again."""


class HungUp(Exception):
    """The client did not want to hear more."""


@dataclass
class Clients:
    """Clients of two servers, and what they noted."""

    servers: Sequence[Server]
    http: httpx.AsyncClient
    chance: random.Random
    attempts: list[Attempt] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    """How often what happened to them."""

    unexpected: list[str] = field(default_factory=list)
    """Runs that there should not have been."""

    _numbers: Any = field(default_factory=itertools.count)

    async def talk(self, threads: Sequence[str], until: float) -> None:
        """One client, until that time."""
        while monotonic() < until:
            await asyncio.sleep(self.chance.uniform(0.2, 1.5))
            act, thread_id = self.chance.choice(self._habits()), self.chance.choice(threads)
            while True:
                try:
                    await act(thread_id)
                    break
                except HungUp:
                    self.met["hung up"] += 1
                    break
                except (NotDone, httpx.TransportError) as error:
                    why = str(error) if isinstance(error, NotDone) else type(error).__name__
                    self.met[f"tried again after {why}"] += 1
                    await asyncio.sleep(self.chance.uniform(0.2, 0.6))
                    if monotonic() > until + PATIENCE:
                        self.unexpected.append(f"{thread_id} was still refused in the end: {why}")
                        break

    async def travel(self, operation: str, **arguments: Any) -> Any:
        """The result of an operation."""
        answer = await self._post([], {"operation": operation, **arguments})
        return answer["custom_outputs"]["result"]

    def _habits(self) -> list[Callable[[str], Awaitable[None]]]:
        return [
            *[self._go_on] * 15,
            self._fork_after_a_turn,
            self._fork_anywhere,
            self._fork_anywhere,
            *[self._edit] * 2,
        ]

    async def _go_on(self, thread_id: str) -> None:
        await self._turn(self._attempt(thread_id))

    async def _fork_after_a_turn(self, thread_id: str) -> None:
        await self._turn(self._attempt(thread_id, self._known(thread_id)))

    async def _fork_anywhere(self, thread_id: str) -> None:
        if named := self._known(thread_id):
            history = await self.travel("get_checkpoint_history", thread_id=thread_id, limit=50)
            named = self.chance.choice(history)["checkpoint_id"]
        await self._turn(self._attempt(thread_id, named))

    async def _edit(self, thread_id: str) -> None:
        if named := self._known(thread_id):
            attempt = self._attempt(thread_id, named)
            ref = {"thread_id": thread_id, "checkpoint_id": named}
            message = {"role": "user", "content": attempt.word}
            self._note(attempt, await self.travel("update_checkpoint_state", **ref, new_messages=[message]))

    def _attempt(self, thread_id: str, named: str | None = None) -> Attempt:
        attempt = Attempt(thread_id, f"w{next(self._numbers)}", named)
        self.attempts.append(attempt)
        return attempt

    def _known(self, thread_id: str) -> str | None:
        """A checkpoint that some client received, if there is one."""
        known = [attempt.checkpoint_id for attempt in self.attempts if attempt.thread_id == thread_id]
        return self.chance.choice([checkpoint_id for checkpoint_id in known if checkpoint_id] or [None])

    async def _turn(self, attempt: Attempt) -> None:
        text = f"{attempt.word} {self.chance.choice(MANNERS)}".strip()
        ref = {"thread_id": attempt.thread_id}
        if attempt.named:
            ref["checkpoint_id"] = attempt.named
        if self.chance.random() < 0.5:
            response = await self._post(text, ref)
        else:
            hang_up_after = self.chance.randrange(40) if self.chance.random() < 0.2 else None
            response = await self._listen(text, ref, hang_up_after)
        attempt.answer = response["output"][-1]["content"][0]["text"]
        self._note(attempt, response["custom_outputs"])

    def _note(self, attempt: Attempt, outputs: dict[str, Any]) -> None:
        attempt.checkpoint_id, attempt.parent_id = outputs["checkpoint_id"], outputs.get("parent_checkpoint_id")
        attempt.acknowledged = monotonic()

    async def _post(self, text: Any, custom_inputs: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.chance.choice(self.servers).url}/responses"
        answer = await self.http.post(url, json={"input": text, "custom_inputs": custom_inputs})
        self._check(answer)
        return dict(answer.json())

    async def _listen(self, text: str, custom_inputs: dict[str, Any], hang_up_after: int | None) -> dict[str, Any]:
        url = f"{self.chance.choice(self.servers).url}/responses"
        body = {"input": text, "custom_inputs": custom_inputs, "stream": True}
        async with self.http.stream("POST", url, json=body) as answer:
            if answer.status_code != 200:
                await answer.aread()
            self._check(answer)
            events = 0
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if event["type"] == "response.completed":
                    return dict(event["response"])
                if event["type"] == "error":
                    if event["code"] not in TRY_AGAIN_CODES:
                        self.unexpected.append(line)
                    raise NotDone(event["code"])
                events += 1
                if hang_up_after is not None and events > hang_up_after:
                    raise HungUp
        raise NotDone("a stream that ended early")

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code == 200:
            return
        if answer.status_code not in TRY_AGAIN:
            self.unexpected.append(f"{answer.status_code} {answer.text}")
        raise NotDone(f"status {answer.status_code}")
