"""What an evaluation found, in lines for people."""

from collections import Counter
from collections.abc import Iterator

from stateful_agent.evaluation.evaluate import Verdict


def summary(verdicts: list[Verdict]) -> Iterator[str]:
    """A line for each score, and one below it for each conversation that it does not hold for."""
    for score in dict.fromkeys(verdict.score for verdict in verdicts):
        found = [verdict for verdict in verdicts if verdict.score == score]
        numbers = [verdict.value for verdict in found if type(verdict.value) in (int, float)]
        if found[0].is_check:
            yield f"{score:26}{sum(not verdict.has_failed for verdict in found)} of {len(found)}"
        elif numbers:
            yield f"{score:26}{max(numbers):.2f} at most"
        else:
            said = Counter(str(verdict.value) for verdict in found)
            yield f"{score:26}" + ", ".join(f"{value}: {times}" for value, times in said.most_common())
        for verdict in found:
            if verdict.has_failed:
                yield f"    {verdict.conversation}: {verdict.why}"
