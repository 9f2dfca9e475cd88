"""What a graph waits for: its interrupts, approvals among them, and the answers to them. Pure.

An approval is an interrupt of LangChain's `HumanInTheLoopMiddleware`, in either of its forms: one for all calls of a
message, or one for each call (https://docs.langchain.com/oss/python/langchain/human-in-the-loop). On the wire it is an
`mcp_approval_request`, answered by an `mcp_approval_response`
(https://platform.openai.com/docs/guides/tools-connectors-mcp#approvals).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.items import as_unicode
from stateful_agent.responses.types import Interrupt, Item

WAITING = "\N{DOUBLE VERTICAL BAR} "
"""How a message begins that says what the agent waits for. It is in no thread: a client that sends it again, as a part
of the conversation, sends nothing new."""

QUESTIONS = ("question", "message", "description", "prompt", "text")
"""The keys of an interrupt's value, any of which says in words what is asked."""

ID_LENGTH = 32
"""Characters of an interrupt's id, all of them hexadecimal."""


@dataclass(frozen=True)
class Approval:
    """Whether a call may run, as a person has decided."""

    request_id: str
    approve: bool
    reason: str | None = None


def is_breakpoint(interrupt: Interrupt) -> bool:
    """Whether the graph was compiled to stop there. It asks nothing, and goes on with whatever it is answered."""
    return interrupt["id"] == interrupt["node"]


def words(interrupt: Interrupt) -> str:
    """What an interrupt asks, for a client that shows nothing but text."""
    value = interrupt["value"]
    if calls := calls_to_approve(interrupt):
        listed = "; ".join(f"{call['name']}({_json(call['args'])})" for call in calls)
        return f"{WAITING}Waiting for approval of {listed}"
    if isinstance(value, Mapping):
        question = next((value[key] for key in QUESTIONS if isinstance(value.get(key), str) and value[key]), None)
        value = _json(value) if question is None else question
    if value is None:
        return f"{WAITING}Waiting at {interrupt['node']}"
    return as_unicode(WAITING + (value if isinstance(value, str) else _json(value)))


def calls_to_approve(interrupt: Interrupt) -> list[dict[str, Any]]:
    """The calls that an approval is about, each with `name` and `args`; none for another interrupt."""
    match interrupt["value"]:
        case {"action_requests": [*requests], "review_configs": [*_]}:
            calls = requests
        case {"type": "tool_approval", "name": str(), "args": dict()} as call:
            calls = [call]
        case _:
            return []
    if all(isinstance(call, dict) and isinstance(call.get("name"), str) and "args" in call for call in calls):
        return [{"name": call["name"], "args": call["args"]} for call in calls]
    return []


def approval_items(interrupt: Interrupt, server: str) -> list[Item]:
    """An `mcp_approval_request` for each call that an approval is about."""
    return [
        {
            "id": _request_id(interrupt["id"], n),
            "type": "mcp_approval_request",
            "server_label": server,
            "name": call["name"],
            "arguments": _json(call["args"]),
        }
        for n, call in enumerate(calls_to_approve(interrupt))
    ]


def approvals_in(items: Sequence[Mapping[str, Any]]) -> list[Approval]:
    """The approvals that an input ends with. Those before, in a conversation that is sent again, are given already.

    Raises:
        InvalidRequest: one has another shape, or something new is said beside them.
    """
    last = len(items)
    while last and items[last - 1].get("type") == "mcp_approval_response":
        last -= 1
    asked = max((n for n in range(last) if items[n].get("type") == "mcp_approval_request"), default=-1)
    beside = (item for item in items[asked + 1 : last] if item.get("type") == "function_call_output" or _is_user(item))
    if last < len(items) and any(beside):
        raise InvalidRequest("Approvals come without other input: send the message in the next turn.", param="input")
    return [_approval(items[n], f"input[{n}]") for n in range(last, len(items))]


def answers_to(
    waiting: Sequence[Interrupt],
    former_ids: Mapping[str, str],
    resume: Any,
    approvals: Sequence[Approval],
    *,
    resumes: bool,
) -> dict[str, Any]:
    """What interrupts are answered with, by their ids: of those that are `waiting`, one or more.

    `resume` answers the one that waits, or several by their ids, if it `resumes`. An id that an interrupt had before
    will do: `former_ids` has the new one.

    Raises:
        InvalidRequest: nothing waits; an id is of none that waits; several wait and it is not said which is answered;
            or an approval is not one that the interrupt takes.
    """
    param = "custom_inputs.resume" if resumes else "input"
    if not waiting:
        raise InvalidRequest("Nothing waits for an answer at this checkpoint: send a message instead.", param=param)
    by_id = {interrupt["id"]: interrupt for interrupt in waiting}
    by_any_id = by_id | {old: by_id[new] for old, new in former_ids.items() if new in by_id}
    answers = _decided(by_any_id, approvals)
    if resumes:
        names_ids = isinstance(resume, dict) and resume and (resume.keys() & by_any_id or all(map(_is_id, resume)))
        if not names_ids and len(by_id) > 1:
            raise InvalidRequest(
                f"{len(by_id)} interrupts wait: answer them by their ids, as in {{{min(by_id)!r}: ...}}.", param=param
            )
        for any_id, answer in (resume if names_ids else {waiting[0]["id"]: resume}).items():
            if any_id not in by_any_id:
                raise InvalidRequest(f"No interrupt {any_id!r} waits here: there are {', '.join(by_id)}.", param=param)
            if (interrupt_id := by_any_id[any_id]["id"]) in answers:
                raise InvalidRequest(f"The interrupt {any_id!r} is answered twice.", param=param)
            answers[interrupt_id] = answer
    for interrupt_id, answer in answers.items():
        _check_decisions(by_id[interrupt_id], answer, param)
    return answers


def _decided(by_any_id: Mapping[str, Interrupt], approvals: Sequence[Approval]) -> dict[str, Any]:
    """The approvals in the form that the middleware reads, by the interrupts' ids."""
    given = {approval.request_id: approval for approval in approvals}
    if len(given) < len(approvals):
        raise InvalidRequest("An approval is given twice.", param="input")
    answers: dict[str, Any] = {}
    for any_id, interrupt in by_any_id.items():
        request_ids = [_request_id(any_id, n) for n in range(len(calls_to_approve(interrupt)))]
        decisions = [_decision(given.pop(request_id)) for request_id in request_ids if request_id in given]
        if decisions and len(decisions) < len(request_ids):
            raise InvalidRequest(f"These are decided together: {', '.join(request_ids)}.", param="input")
        if decisions:
            answers[interrupt["id"]] = decisions[0] if _is_single(interrupt) else {"decisions": decisions}
    if given:
        raise InvalidRequest(f"No approval {min(given)!r} is waited for here.", param="input")
    return answers


def _decision(approval: Approval) -> dict[str, Any]:
    if approval.approve:
        return {"type": "approve"}
    return {"type": "reject", **({"message": approval.reason} if approval.reason else {})}


def _check_decisions(interrupt: Interrupt, answer: Any, param: str) -> None:
    """See that the middleware can read the answer to an approval: it would fail on any other."""
    calls, value = calls_to_approve(interrupt), interrupt["value"]
    if not calls:
        return
    decisions = [answer] if _is_single(interrupt) else answer.get("decisions") if isinstance(answer, dict) else None
    kinds = [one.get("type") if isinstance(one, dict) else None for one in decisions or ()]
    if not isinstance(decisions, list) or len(kinds) != len(calls):
        form = '{"type": "approve"}' if _is_single(interrupt) else '{"decisions": [{"type": "approve"}, ...]}'
        raise InvalidRequest(f"{len(calls)} calls are to be decided, in the form {form}.", param=param)
    allowed = [["approve", "edit", "reject", "respond"]] * len(calls)
    if not _is_single(interrupt):
        by_name = {config["action_name"]: config["allowed_decisions"] for config in value["review_configs"]}
        allowed = [by_name.get(call["name"], every) for call, every in zip(calls, allowed, strict=True)]
    for call, decision, kind, may in zip(calls, decisions, kinds, allowed, strict=True):
        if kind not in may:
            raise InvalidRequest(f"The decision on {call['name']} is one of {', '.join(may)}.", param=param)
        edited = decision.get("edited_action")
        if kind == "edit" and not (
            isinstance(edited, dict) and isinstance(edited.get("name"), str) and isinstance(edited.get("args"), dict)
        ):
            raise InvalidRequest("An edit needs edited_action: {name, args}.", param=param)
        if kind == "respond" and not isinstance(decision.get("message"), str):
            raise InvalidRequest("To respond takes a message.", param=param)


def _approval(item: Mapping[str, Any], param: str) -> Approval:
    request_id, approve, reason = (item.get(name) for name in ("approval_request_id", "approve", "reason"))
    if not isinstance(request_id, str):
        raise InvalidRequest("approval_request_id must be a string.", param=f"{param}.approval_request_id")
    if not isinstance(approve, bool):
        raise InvalidRequest("approve must be true or false.", param=f"{param}.approve")
    if not isinstance(reason, str | None):
        raise InvalidRequest("reason must be a string.", param=f"{param}.reason")
    return Approval(request_id, approve, reason)


def _is_user(item: Mapping[str, Any]) -> bool:
    return item.get("role") == "user"


def _is_single(interrupt: Interrupt) -> bool:
    """Whether an approval is about one call, and is answered by one decision."""
    return "action_requests" not in interrupt["value"]


def _is_id(key: str) -> bool:
    return len(key) == ID_LENGTH and all(character in "0123456789abcdef" for character in key)


def _request_id(interrupt_id: str, n: int) -> str:
    return f"mcpr_{interrupt_id}_{n}"


def _json(value: Any) -> str:
    return as_unicode(json.dumps(value, ensure_ascii=False, default=str))
