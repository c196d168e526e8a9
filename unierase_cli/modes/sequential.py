"""Sequential mode: one request after another, each step on the model that the previous step left.

Later requests are unknown to earlier steps: the token is trained on questions outside all requests, and what is
protected is never forgotten. ``mode.retain=later`` lets gradient methods also retain what only later requests forget,
as a user who does not know the future would.
"""

from __future__ import annotations

from itertools import pairwise

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Fact, Step, UserError
from unierase_cli.modes.requests import look_up, read_tasks, settle

STEPWISE = True
TOKEN_QUESTIONS = "outside"
STEPS = 10


def plan(benchmark: Benchmark, config: ModeConfig) -> list[Step]:
    """One step per request, with everything forgotten before it.

    Raises UserError if no requests are left, for unknown facts, and for one question with two answers.
    """
    requests, _ = settle(_requests(benchmark, config))
    outside = sorted(set(config.leave_out) - set(range(len(requests))))
    if outside or len(set(config.leave_out)) == len(requests):
        what = f"names step {outside[0]}, and" if outside else "leaves nothing:"
        raise UserError(f"mode.leave_out {what} there are {len(requests)} steps from 0", "keep at least one of them")
    requests = [request for index, request in enumerate(requests) if index not in config.leave_out]
    steps: list[Step] = []
    before: list[Fact] = []
    for index, request in enumerate(requests):
        later = [fact for following in requests[index + 1 :] for fact in following] if config.retain == "later" else []
        steps.append(Step(index, tuple(request), (*benchmark.protect, *later), tuple(before)))
        before += request
    return steps


def remarks(benchmark: Benchmark, config: ModeConfig) -> list[str]:
    """What the user should know about the requests: skipped repeats, a smaller last request."""
    requests = _requests(benchmark, config)
    planned, found = settle(requests)
    sizes = {len(request) for request in requests}
    if config.leave_out:
        steps = ", ".join(map(str, sorted(set(config.leave_out))))
        found.append(f"step(s) {steps} of {len(planned)} are left out: their facts are not forgotten, but are scored")
    if config.tasks is None and len(sizes) > 1:
        found.append(f"{len(benchmark.forget)} facts make {len(requests)} requests of {min(sizes)} to {max(sizes)}")
    return found


def _requests(benchmark: Benchmark, config: ModeConfig) -> list[list[Fact]]:
    tasks = read_tasks(config)
    if tasks is not None:
        facts = {fact.id: fact for fact in benchmark.forget}
        return [look_up(ids, facts, str(config.tasks)) for ids in tasks]
    forget, size = benchmark.forget, config.step_size
    if size is not None:
        if size > len(forget):
            raise UserError(
                f"mode.step_size={size} is larger than the forget set ({len(forget)} facts)",
                f"choose for example mode.step_size={max(1, len(forget) // 4)}, or mode=batch",
            )
        return [list(forget[start : start + size]) for start in range(0, len(forget), size)]
    count = config.steps or min(STEPS, len(forget))
    if count > len(forget):
        raise UserError(
            f"mode.steps={count} is more than the forget set has ({len(forget)} facts)", f"choose at most {len(forget)}"
        )
    edges = [number * len(forget) // count for number in range(count + 1)]
    return [list(forget[start:end]) for start, end in pairwise(edges)]
