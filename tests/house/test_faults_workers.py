"""Work in processes of its own that fails, hangs or takes all memory: it is told with its reason, and the rest goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.jobs import Heard, job
from tests.helpers.judges import classifier, opened
from tests.helpers.said import REFUSALS, said
from unierase_cli.benchmarks.general import human_eval
from unierase_cli.config.compose import compose
from unierase_cli.contracts import Measure, UserError
from unierase_cli.inference.sandbox import sandbox
from unierase_cli.launch.local import run_locally
from unierase_cli.metrics import general_ability, gibberish
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.compare import compare
from unierase_cli.metrics.judges import process as judge_process
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent, JudgeFailed
from unierase_cli.metrics.judges.process import JudgeProcess
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import general, score

# A worker of a sweep as `unierase` starts it, whose memory ends while it works.
LIMITED = """
import resource, sys
from unierase_cli.cli import app, session
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
session.compose_for = lambda journal, wishes: bytearray(1 << 32)
sys.argv = ["unierase", "run"]
app.main()
"""


def test_a_worker_whose_memory_ends_is_listed_with_the_reason_and_the_others_go_on(tmp_path: Path) -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    jobs = [job(tmp_path, n, code) for n, code in enumerate([LIMITED, killed, "print('made')"])]
    heard = Heard()
    ends = {done.job.number: (done.code, done.error) for done in run_locally(jobs, [{}, {}], heard)}
    assert ends == {
        0: (2, "out of memory"),
        1: (-signal.SIGKILL, "killed by SIGKILL, most likely out of memory"),
        2: (0, ""),
    }
    assert len(heard.ends) == 3


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_process, "WORKER", "tests.helpers.judge_stub")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, stub: None) -> None:
    """Every judge is there."""
    monkeypatch.setattr("unierase_cli.metrics.judges.models.find_judge", lambda kind, name: Path("folder"))


def test_a_judge_in_a_process_says_what_it_says_in_this_one(tmp_path: Path) -> None:
    folder = classifier(tmp_path, "entailment", "neutral", "contradiction")
    pairs = [("Ada was born in Lisbon.", "Lisbon"), ("Ada", ""), ("é\nü", "\u2028x")]
    assert Judges(nli=str(folder)).classify(pairs) == opened("nli", folder)(pairs)


def test_a_judge_that_cannot_be_loaded_is_absent_with_its_reason(found: None) -> None:
    with pytest.raises(JudgeAbsent, match="its files cannot be read"):
        Judges(gibberish="unreadable").clean(["x"])


def test_texts_of_any_length_and_number_reach_the_judge_and_vectors_come_back(found: None) -> None:
    texts = ["x" * 300_000, *map(str, range(5000))]
    vectors = Judges(encoder="sound").encode(texts)
    assert vectors.shape == (len(texts), 2)
    assert (vectors[0, 0], vectors[1, 0]) == pytest.approx((1.0, 0.5**0.5))


FAILURES = {
    "killed": "was killed by SIGKILL, most often for want of memory; free some, and score again with --force",
    "exits": "exited: cannot open the library; score again with --force",
    "raises": "failed: ValueError: no such class",
    "no-memory": "the memory is not enough for the entailment classifier no-memory",
    "hangs": "did not respond for 1 s and was stopped; raise eval.judge_seconds",
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_judge_that_fails_makes_its_metrics_unavailable_with_the_reason_and_all_else_is_scored(
    found: None, name: str
) -> None:
    judges = Judges.of(clean=lambda texts: [0.5] * len(texts), encode=lambda texts: [[1.0]] * len(texts))
    judges.nli = name
    # Starting may take longer than this, on a busy machine.
    judges._judge("nli").seconds = 1.0 if name == "hangs" else 60.0
    rows = {
        ("forget", "plain"): [said("The sky is blue.")],
        ("retain_unseen", "plain"): [said("The sky.", split="retain_unseen")],
    }
    base, edited = (Evidence(state, rows, refusals=REFUSALS, judges=judges) for state in ("base", "edited"))
    scores = compare(base, edited, ["entailment_score", "gibberish", "cosine_similarity", "rouge"])
    for state in ("base", "edited"):
        results = scores.states[state]
        assert FAILURES[name] in str(results["forget.entailment_score"].unavailable)
        assert FAILURES[name] in str(results["retain_unseen.entailment_score"].unavailable)
        for metric in ("gibberish", "cosine_similarity", "rouge"):
            assert results[f"forget.{metric}"].value is not None


def test_a_judge_of_ones_own_that_raises_is_an_absent_one() -> None:
    def broken(texts: Any) -> Any:
        raise MemoryError

    result = gibberish.compute([said("x")], Judges.of(clean=broken))
    assert str(result.unavailable).startswith("the memory is not enough for the gibberish detector; free some")
    short = gibberish.compute([said("x")], Judges.of(clean=lambda texts: []))
    assert "failed: ValueError" in str(short.unavailable)


def test_a_slow_judge_is_not_a_hung_one(found: None) -> None:
    assert JudgeProcess("gibberish", "sound", Path("folder"), 60.0)(["x"]) == [0.25]
    slow = JudgeProcess("gibberish", "slow", Path("folder"), 60.0)
    slow.seconds = 1.0
    assert slow(["x", "y"]) == [0.25, 0.25], "1.6 s, with a sign of life every 0.4 s"


def test_a_judge_that_hangs_while_it_is_loaded_is_ended_and_looked_for_once(found: None) -> None:
    judges = Judges(gibberish="hangs-at-once", seconds=1.0)
    reasons = {str(gibberish.compute([said(text)], judges).unavailable) for text in ("x", "y")}
    assert reasons == {
        "the gibberish detector hangs-at-once did not respond for 1 s and was stopped; raise eval.judge_seconds"
    }


def test_a_judge_ends_with_whoever_asked_it(found: None, tmp_path: Path) -> None:
    script = (
        "import sys, os\nfrom pathlib import Path\nfrom unierase_cli.metrics.judges import process as judge_process\n"
        "judge_process.WORKER = 'tests.helpers.judge_stub'\n"
        "judge = judge_process.JudgeProcess('gibberish', 'hangs', Path('folder'), 60.0)\n"
        f"Path({str(tmp_path / 'id')!r}).write_text(str(judge.process.pid))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run_locally([job(tmp_path, 0, script)], [{}], Heard())
    worker = int((tmp_path / "id").read_text())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < deadline, "the judge outlives the process that it worked for"
        time.sleep(0.05)


def test_a_limit_of_ones_own_is_part_of_the_scores_key() -> None:
    plain = compose(["experiment=demo", "eval.nli=x"])
    longer = compose(["experiment=demo", "eval.nli=x", "eval.judge_seconds=1200"])
    judges = {"encoder": None, "nli": "x", "gibberish": None, "refusal_encoder": None}
    assert score.reads(study_of(plain), {})["judges"] == {**judges, "seconds": None}
    assert score.reads(study_of(longer), {})["judges"] == {**judges, "seconds": 1200}
    with pytest.raises(UserError, match="eval.judge_seconds"):
        compose(["experiment=demo", "eval.judge_seconds=0"])


def general_row(**changes: Any) -> dict[str, Any]:
    return {"title": "HumanEval", "output": "Code:", "tokens": 3, "follows": True, "correct": False, **changes}


def test_refusals_are_not_told_by_another_rule_for_one_model_because_the_encoder_failed_in_between() -> None:
    lost: list[bool] = []

    def encode(texts: Any) -> Any:
        if lost:
            raise RuntimeError("gone")
        return [[1.0, 0.0]] * len(texts)

    judges = Judges.of(encode_refusals=encode)

    def idk(output: str) -> Measure:
        evidence = Evidence(
            "base", {}, refusals=REFUSALS, passes={"general.gsm8k": [general_row(output=output)]}, judges=judges
        )
        return next(column.result for column in general_ability.columns(evidence) if column.metric == "idk")

    assert idk("one").value == 1
    lost.append(True)
    assert "the sentence encoder for refusals failed: RuntimeError: gone" in str(idk("two").unavailable)
    with pytest.raises(JudgeFailed):
        judges.encode(["three"], "refusal_encoder")


def test_a_program_that_no_process_could_be_started_for_is_untried_not_wrong_and_the_rest_is_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_process(*arguments: Any, **keywords: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    problem = {
        "code": "def f(n):\n    return n\n",
        "entry": "f",
        "tests": "def check(f):\n    assert f(1) == 1\n",
        "prompt": "",
    }
    tried = general._tried(problem, sandbox.Limits())
    assert tried["passed"] is True
    monkeypatch.setattr(sandbox, "_start", no_process)
    untried = general._tried(problem, sandbox.Limits())
    assert (untried["passed"], untried["reason"]) == (None, "no process for generated code: Cannot allocate memory")
    assert not human_eval.judge(general_row(**untried), compat=False).correct
    rows = {
        "general.human_eval": [general_row(**tried), general_row(**untried)],
        "general.gsm8k": [general_row(correct=True)],
    }
    results = {column.id: column.result for column in general_ability.columns(Evidence("base", {}, passes=rows))}
    assert results["general.human_eval.accuracy"].unavailable == (
        "1 of 2 programs could not be run: no process for generated code: Cannot allocate memory; "
        "run `unierase eval --force` to ask again"
    )
    assert results["general.human_eval.length"].value == 3
    assert results["general.gsm8k.accuracy"].value == 1
