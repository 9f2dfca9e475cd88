"""Evaluating an agent through MLflow: each conversation becomes a trace with its scores, all of them a run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from stateful_agent.evaluation.asking import Ask, Refused
from stateful_agent.evaluation.checks import CHECKS, Check, in_time
from stateful_agent.evaluation.conversations import Conversation, Conversations, Goal
from stateful_agent.evaluation.play import Played, forget, play, play_turn, wake

TURNS_OF_GOAL = 5
"""How long a simulated user goes on at most."""

TRUTHFUL = (
    "Each answer is relevant to what the user says, and true to what was said before on the same thread. The agent is "
    "right not to know what was said elsewhere."
)


@dataclass(frozen=True)
class Verdict:
    """What one score says of one conversation."""

    conversation: str
    score: str
    value: Any
    """Whether it holds, or in words of a judge's; seconds of what is measured."""

    why: str = ""
    is_check: bool = False
    """Whether it is one that needs no model, and always says the same of the same answers."""

    @property
    def has_failed(self) -> bool:
        """Whether it is a check that does not hold."""
        return self.is_check and self.value is not True


def evaluate(found: Conversations, ask: Ask, seconds: float, judge: str | None) -> tuple[str, list[Verdict]]:
    """Play conversations with an agent, score them, and keep all of it as a run of MLflow's experiment.

    No turn is to take longer than these `seconds`. `judge` is a model in MLflow's form, such as `openai:/gpt-5`: it
    judges the answers, and plays users who want something. `None`: what needs a model is left out.

    Returns the run's id, and what each score says.

    Raises:
        stateful_agent.evaluation.asking.Refused: the agent does not answer at all, or the judge does not.
    """
    import mlflow

    scorers = [*map(_scorer, CHECKS), _latency(seconds)]
    if judge:
        scorers.append(_judging(judge))
    data = [{"inputs": {"conversation": one.model_dump(mode="json", by_alias=True)}} for one in found.conversations]

    @mlflow.trace(name="conversation")
    def converse(conversation: dict[str, Any]) -> list[Played]:
        return play(Conversation.model_validate(conversation), ask)

    wake(ask)
    with _no_trial(), mlflow.start_run(run_name="evaluate") as run:
        rows = _evaluated(data, scorers, converse)
        verdicts = list(_verdicts(rows, lambda row: row["request"]["conversation"]["name"]))
        lost = {one.name for one in found.conversations} - {verdict.conversation for verdict in verdicts}
        verdicts += [Verdict(name, "played", False, "it could not be played", is_check=True) for name in sorted(lost)]
        if judge and found.goals:
            verdicts += _simulated(found.goals, ask, judge)
    return run.info.run_id, verdicts


def judge_of(agent_model: str | None) -> str | None:
    """The model that judges, by that of the agent: in MLflow's form, `None` where MLflow has no way to ask it."""
    provider, _, name = (agent_model or "").partition(":")
    providers = {"openai": "openai", "anthropic": "anthropic", "databricks": "endpoints"}
    return f"{providers[provider]}:/{name}" if provider in providers else None


def _judging(judge: str) -> Any:
    """The score of a model that judges answers, once it has judged one: what else it fails with comes late, and long.

    Raises:
        Refused: it does not answer.
    """
    import mlflow

    scorer = mlflow.genai.scorers.Guidelines(name="judge", guidelines=TRUTHFUL, model=judge)
    try:
        scorer(inputs={"request": "Hello"}, outputs="Hello!")
    except mlflow.MlflowException as error:
        raise Refused("judge", f"The judge {judge} does not answer: {error.message}") from error
    return scorer


def _simulated(goals: tuple[Goal, ...], ask: Ask, judge: str) -> Iterator[Verdict]:
    """What is said of conversations with simulated users, each of whom wants something."""
    import mlflow
    from mlflow.genai.scorers import ConversationCompleteness, UserFrustration
    from mlflow.genai.simulators import ConversationSimulator

    threads: set[str] = set()

    @mlflow.trace(name="turn")
    def answer(input: list[dict[str, Any]], mlflow_session_id: str) -> dict[str, Any]:
        threads.add(mlflow_session_id)
        played, _ = play_turn(ask, input[-1]["content"], {"thread_id": mlflow_session_id})  # the thread has the rest
        text = played["answer"] or f"{played['error']}: {played['message']}"
        message = {"role": "assistant", "content": [{"type": "output_text", "text": text}]}
        return {"output": [{"type": "message", "id": "message", **message}]}

    cases = [goal.model_dump(exclude_none=True) for goal in goals]
    simulator = ConversationSimulator(test_cases=cases, max_turns=TURNS_OF_GOAL, user_model=judge)
    scorers = [ConversationCompleteness(model=judge), UserFrustration(model=judge)]
    try:
        rows = _evaluated(simulator, scorers, answer)
    finally:
        for thread in threads:
            forget(ask, thread)
    yield from _verdicts(rows, lambda row: "a simulated user")


def _evaluated(data: Any, scorers: list[Any], predict: Callable[..., Any]) -> Any:
    """The rows of MLflow's results, without what it prints of them."""
    import mlflow

    with redirect_stdout(StringIO()):
        return mlflow.genai.evaluate(data=data, scorers=scorers, predict_fn=predict).result_df


def _scorer(check: Check) -> Any:
    from mlflow.entities import Feedback
    from mlflow.genai.scorers import scorer

    def score(inputs: dict[str, Any], outputs: list[Played]) -> list[Feedback]:
        found = check(Conversation.model_validate(inputs["conversation"]), outputs)
        return [Feedback(name=check.__name__, value=found.holds, rationale=found.why)] if found else []

    return scorer(score, name=check.__name__)


def _latency(seconds: float) -> Any:
    from mlflow.entities import Feedback
    from mlflow.genai.scorers import scorer

    @scorer(name="latency")
    def score(outputs: list[Played]) -> list[Feedback]:
        found = in_time(outputs, seconds)
        first = [played["first_token_seconds"] for played in outputs if "first_token_seconds" in played]
        measured = {
            "seconds": max(played["seconds"] for played in outputs),
            "first_token_seconds": max(first, default=None),
        }
        return [
            Feedback(name="in_time", value=found.holds, rationale=found.why),
            *(Feedback(name=name, value=round(value, 3)) for name, value in measured.items() if value is not None),
        ]

    return score


CHECK_NAMES = {"in_time", *(check.__name__ for check in CHECKS)}


def _verdicts(rows: Any, name_of: Callable[[Any], str]) -> Iterator[Verdict]:
    """What the scores say of each row of MLflow's results."""
    for _, row in rows.iterrows():
        for found in row["assessments"]:
            name, feedback = found["assessment_name"], found.get("feedback") or {}
            why = found.get("rationale") or (feedback.get("error") or {}).get("error_message") or ""
            yield Verdict(name_of(row), name, feedback.get("value"), why, is_check=name in CHECK_NAMES)


@contextmanager
def _no_trial() -> Iterator[None]:
    """Without MLflow's trial of what it is given, which would play a conversation for nothing."""
    from mlflow.environment_variables import MLFLOW_GENAI_EVAL_SKIP_TRACE_VALIDATION as SKIPPED

    before = SKIPPED.get()
    SKIPPED.set(True)
    try:
        yield
    finally:
        SKIPPED.set(before)
