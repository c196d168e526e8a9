"""What a plan refuses, so that nobody waits for a model before hearing of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.helpers.places import CONF
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.catalog import groups
from unierase_cli.config.compose import compose
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline.pipeline import Pipeline, PlanRow

LAYER = "method.{}.settings.layer={}"


def plan(*words: str) -> list[PlanRow]:
    return Pipeline(compose(["experiment=demo", *words]), SilentReporter()).plan("score")


@pytest.mark.parametrize("own", [False, True])
def test_a_block_that_the_model_lacks(own: bool, tmp_path: Path) -> None:
    words = ["method=rmu", f"run.outputs={tmp_path / 'outputs'}"]
    if own:
        words += ["model=hf", f"model.path={save_folder(tiny_llama(), tmp_path / 'model')}"]
    with pytest.raises(UserError, match=rf"forget\.settings\.layer=7: the model has blocks 0 to {3 if own else 5}"):
        plan(*words, LAYER.format("forget", 7))
    with pytest.raises(UserError, match=r"retain\.settings\.layer=7"):
        plan(*words, LAYER.format("forget", 2), LAYER.format("retain", 7))
    plan(*words, LAYER.format("forget", 2), LAYER.format("retain", 2))
    plan(*words)
    assert not (tmp_path / "outputs").exists()


def test_a_block_that_a_part_of_a_chain_lacks(tmp_path: Path) -> None:
    words = ["method=unierase_deep", f"run.outputs={tmp_path / 'outputs'}", "method.chain.rmu.forget.settings.layer=7"]
    with pytest.raises(UserError, match=r"^method\.chain\.rmu\.forget\.settings\.layer=7: the model has blocks 0 to 5"):
        plan(*words)


def test_a_hub_model_that_nobody_has_is_first_known_when_it_is_loaded(tmp_path: Path) -> None:
    words = ["method=rmu", "model=hf", "model.path=nobody/such-model", f"run.outputs={tmp_path / 'outputs'}"]
    # Whether it has the block that rmu works on can't be told, nor how it is asked.
    rows = plan(*words)
    assert [row.stage for row in rows] == ["observe base", "erase", "observe edited", "score"]
    assert {row.state for row in rows} == {"missing"}
    Pipeline(compose(["experiment=demo", *words]), SilentReporter()).check("score")
    with pytest.raises(UserError, match=r"nobody/such-model: no such folder here, not in the local cache, and the hub cannot"):
        Pipeline(compose(["experiment=demo", *words]), SilentReporter()).make("erase")


def test_a_method_that_trains_adapters_without_one(tmp_path: Path) -> None:
    words = ["method=lora_negation", f"run.outputs={tmp_path}"]
    with pytest.raises(UserError, match="method=lora_negation trains adapters") as error:
        plan(*words)
    assert error.value.hint == "add adapter=lora, or choose method=task_vector"
    plan(*words, "adapter=lora")


@pytest.mark.parametrize(("method", "rows"), [("npo_gd", 30), ("altpo", 150)])
def test_a_batch_larger_than_the_forget_set(method: str, rows: int, tmp_path: Path) -> None:
    words = [f"method={method}", f"run.outputs={tmp_path / 'outputs'}"]
    with pytest.raises(UserError, match=rf"larger than the forget set \({rows} rows\)") as error:
        plan(*words, f"unlearn.batch_size={rows + 1}")
    assert error.value.hint.startswith("choose unlearn.batch_size=")
    plan(*words, f"unlearn.batch_size={rows}")
    # These modes cut the batch themselves.
    for mode in ("precise", "sequential"):
        plan(*words, f"unlearn.batch_size={rows + 1}", f"mode={mode}")
    assert not (tmp_path / "outputs").exists()


MISTAKES = {
    "method.forget.term=npoo": "term=npoo is not a loss term",
    "method.forget.settings={betta: 1}": "has no setting 'betta'",
    "method.forget.settings.beta=-1": r"method\.forget\.settings of term npo: beta=-1 must be above 0",
    "method.forget.term=altpo": "needs alternative answers",
    "method.retain.term=kl_all": "needs a reference model at hand",
    "method.implementation=foo": "foo is not a method",
    "unlearn.forget_labels=all": "there is no fixed reference",
    "unlearn.optimizer=paged_adamw_8bit": "needs an NVIDIA GPU",
    "unlearn.sharding=fsdp": "there is only one",
    "benchmark.split=forget10 method.retain.term=kl unlearn.reference_gib=1e-6": "by an estimate",
    "adapter=lora unlearn.compute=bfloat16": "adapters are float32",
    "adapter.r=16": r"adapter\.r=16 without an adapter",
    "mode=sequential mode.reference=original unlearn.sharding=fsdp": "needs the whole model",
    "mode=sequential unlearn.rehearsal=1 adapter=lora method.retain.term=kl_all": "needs a reference model at hand",
    "mode=sequential mode.reference=original adapter=lora method.retain.term=kl_all": "needs a reference model at hand",
}
# What looks like one of them and is none.
LEGAL = [
    "mode=precise method.retain.term=kl unlearn.reference_gib=1e-3",
    "mode=precise mode.reference=original adapter=lora method.retain.term=kl_all",
    "mode=sequential mode.reference=original adapter=lora method.retain.term=kl_all unlearn.reference=second_model",
    "mode=sequential unlearn.batch_size=200",
    "mode=sequential unlearn.rehearsal=1",
    "method.retain.term=null",
    "adapter=lora adapter.r=16",
]


@pytest.mark.parametrize("words", MISTAKES)
def test_what_a_gradient_method_refuses_is_told_before_anything_is_made(words: str, tmp_path: Path) -> None:
    given = shlex.split(words) if "{" not in words else [words]
    experiment = compose(["experiment=demo", "method=npo_gd", "run.device=cpu", f"run.outputs={tmp_path / 'outputs'}", *given])
    with pytest.raises(UserError, match=MISTAKES[words]):
        Pipeline(experiment, SilentReporter()).check("score")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("words", LEGAL)
def test_what_is_no_mistake_passes(words: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    experiment = compose(["experiment=demo", "method=npo_gd", f"run.outputs={tmp_path}", *words.split()])
    pipeline, wanted = Pipeline(experiment, SilentReporter()), "precise" if "precise" in words else "score"
    pipeline.check(wanted)
    # It looked at all that is still to be made, and made none of it.
    assert {"erase", wanted} <= {row.stage for row in pipeline.plan(wanted) if row.state == "missing"}
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_shared_out_as_large_as_its_step_lets_it_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["experiment=demo", "method=npo_gd", "mode=sequential", "unlearn.sharding=fsdp", f"run.outputs={tmp_path}"]
    Pipeline(compose([*words, "mode.step_size=10", "unlearn.batch_size=11"]), SilentReporter()).check("score")
    with pytest.raises(UserError, match="batch_size=3 cannot be divided evenly among 2"):
        Pipeline(compose([*words, "mode.step_size=3", "unlearn.batch_size=8"]), SilentReporter()).check("score")


def test_a_broken_file_of_token_weights_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "weights.jsonl").write_text('{"fact": "a"}\n', "utf-8")
    words = ["experiment=demo", "method=npo_gd", f"unlearn.token_weights={tmp_path / 'weights.jsonl'}"]
    with pytest.raises(UserError, match=r"weights\.jsonl:1: not a fact with weights"):
        Pipeline(compose([*words, f"run.outputs={tmp_path / 'outputs'}"]), SilentReporter()).check("score")


def test_every_shipped_gradient_method_passes_the_checks(tmp_path: Path) -> None:
    blocks = {"lora_negation": ["adapter=lora"]}
    blocks["release"] = ["adapter=lora", "method.settings.rounds=1"]
    pytest.importorskip("peft")
    names = groups([CONF])["method"]
    passed = []
    for name in names:
        # A chain is what its parts are, and its yaml alone has none.
        chosen = "[me_gd,unierase]" if name == "chain" else name
        experiment = compose(["experiment=demo", f"method={chosen}", f"run.outputs={tmp_path}", *blocks.get(name, [])])
        Pipeline(experiment, SilentReporter()).check("score")
        passed.append(experiment.method.name)
    assert passed == ["me_gd+unierase" if name == "chain" else name for name in names]
    assert list(tmp_path.iterdir()) == []


NO_SYSTEM = "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}{% endif %}{% endfor %}<a>"
RAISING = "{{ raise_exception('none') if messages[0].role == 'system' }}{% for m in messages %}<u>{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "word", "told"),
    [
        (NO_SYSTEM, "model.system=Be kind.", "drops the system text"),
        (RAISING, "model.system=Be kind.", "the chat template fails"),
        (None, "model.prompt=chat", "has no chat template"),
    ],
)
def test_a_prompt_that_the_model_does_not_have_is_told_before_anything_is_made(
    template: str | None, word: str, told: str, tmp_path: Path
) -> None:
    loaded = tiny_llama()
    loaded.tokenizer.chat_template = template
    folder = save_folder(loaded, tmp_path / "model")
    given = ["experiment=demo", "model=hf", "train=none", f"model.path={folder}", f"run.outputs={tmp_path / 'outputs'}", word]
    for stage in ("moments", "score"):
        with pytest.raises(UserError, match=told):
            Pipeline(compose(given), SilentReporter()).check(stage)
    assert not (tmp_path / "outputs").exists()
