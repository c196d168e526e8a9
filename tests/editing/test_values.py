"""The search for z: batched against one at a time and against a plain loop over the whole model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import FACTS, tiny
from tests.helpers.value_search import CONFIG, LAYER, TARGET, requests
from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.checkpoints import clear_values, search_values
from unierase_cli.editing.spans import EditRequest, make_requests
from unierase_cli.editing.values import Values, find_values
from unierase_cli.models.load import LoadedModel


def search(
    loaded: LoadedModel, wanted: list[EditRequest], config: ValueConfig = CONFIG, starts: tuple[int, ...] = ()
) -> Values:
    return find_values(
        loaded.architecture,
        wanted,
        config,
        LAYER,
        pad_id=loaded.prompts.pad_id,
        refusal_starts=starts,
        reporter=SilentReporter(),
    )


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return float((a - b).norm() / b.norm()) < tolerance


def plain_loop(loaded: LoadedModel, request: EditRequest, config: ValueConfig, starts: tuple[int, ...] = ()) -> Tensor:
    """z of one fact by running whole sequences through the whole model, as the formula in the spec reads."""
    block, state = loaded.architecture.blocks[LAYER], {"key": 0}
    delta = torch.zeros(loaded.architecture.hidden_size, requires_grad=True)
    outputs: list[Tensor] = []

    def change(_module: object, _arguments: object, output: Tensor) -> Tensor:
        outputs.append(output[0, state["key"]].detach())
        return output.index_put((torch.tensor(0), torch.tensor(state["key"])), output[0, state["key"]] + delta)

    def log_probs(ids: list[int], key: int) -> Tensor:
        state["key"] = key
        return loaded.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)

    handle = block.register_forward_hook(change)
    optimiser = torch.optim.Adam([delta], lr=config.lr)
    start: Tensor | None = None
    before: Tensor | None = None
    for look in range(config.steps):
        loss = torch.zeros(())
        for prompt in request.prompts:
            rows = log_probs([*prompt.ids, *request.target[:-1]], prompt.key)[len(prompt.ids) - 1 :]
            start = outputs[-1] if start is None else start
            loss = loss - sum(rows[i, t] for i, t in enumerate(request.target)) / len(request.target) / len(
                request.prompts
            )
            if starts:
                others = rows[0].clone()
                others[request.target[0]] = -torch.inf
                share = others.logsumexp(-1) - others[list(starts)].logsumexp(-1)
                loss = loss + config.runner_up * share / len(request.prompts)
        if request.drift is not None:
            now = log_probs(request.drift.ids, request.drift.key)[request.drift.key]
            before = now.detach() if before is None else before
            loss = loss + config.kl_factor * (now.exp() * (now - before)).sum()
        assert start is not None
        loss = loss + config.weight_decay * delta.norm() / start.norm() ** 2
        if loss < config.stop_loss or look + 1 == config.steps:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            if delta.norm() > config.clamp * start.norm():
                delta.mul_(config.clamp * start.norm() / delta.norm())
    handle.remove()
    assert start is not None
    return start + delta.detach()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gemma3"])
@pytest.mark.parametrize("key_position", ["subject_last", "prompt_last"])
def test_batched_values_equal_a_plain_loop_over_the_whole_model(family: str, key_position: str) -> None:
    loaded = tiny(family)
    wanted = requests(loaded, key_position, ("The book is",))
    found = search(loaded, wanted)
    for index, request in enumerate(wanted):
        assert close(found.z[:, index], plain_loop(loaded, request, CONFIG)), (family, index)


def test_the_runner_up_term_and_several_target_tokens_follow_the_formula() -> None:
    loaded = tiny("llama")
    config = replace(CONFIG, runner_up=0.3, clamp=2.0)
    one, several = requests(loaded)[1], requests(loaded, target=(41, 42, 43))[2]
    assert close(search(loaded, [one], config, (7, 9)).z[:, 0], plain_loop(loaded, one, config, (7, 9)))
    assert close(search(loaded, [several], config).z[:, 0], plain_loop(loaded, several, config))


def test_batched_equals_one_at_a_time_with_clamp_and_early_stop() -> None:
    loaded = tiny("llama")
    config = replace(CONFIG, steps=25, lr=0.5, clamp=4.0, stop_loss=4.4, kl_factor=0.01, weight_decay=0.01)
    wanted = requests(loaded, prefixes=("So it goes",))
    together = search(loaded, wanted, config)
    for index, request in enumerate(wanted):
        alone = search(loaded, [request], config)
        assert int(alone.looks[0]) == int(together.looks[index])
        assert close(together.z[:, index], alone.z[:, 0])
        assert float(together.loss[index]) == pytest.approx(float(alone.loss[0]), rel=1e-4)
    assert len(set(together.looks.tolist())) > 1, "facts should stop at different looks for this test to mean something"
    assert int(together.looks.min()) < config.steps // 2


def test_the_change_never_leaves_the_clamps_ball() -> None:
    loaded = tiny("llama")
    found = search(loaded, requests(loaded), replace(CONFIG, clamp=0.1))
    ratio = (found.z - found.start).norm(dim=0) / found.start.norm(dim=0)
    assert torch.allclose(ratio, torch.full_like(ratio, 0.1), rtol=1e-4)


def test_a_relative_rate_makes_steps_that_follow_the_models_scale() -> None:
    loaded = tiny("llama")
    config = ValueConfig(steps=2, lr=0.2, lr_kind="relative", clamp=1.5, runner_up=0.0, stop_loss=1e-9)
    found = search(loaded, requests(loaded), config)
    ratio = (found.z - found.start).norm(dim=0) / found.start.norm(dim=0)
    assert torch.allclose(ratio, torch.full_like(ratio, 0.2 * 1.5), rtol=1e-2)


def test_the_search_may_stop_on_the_targets_loss_alone() -> None:
    loaded = tiny("llama")
    settings = {
        "steps": 25,
        "lr": 0.5,
        "lr_kind": "absolute",
        "clamp": 4.0,
        "kl_factor": 0.0,
        "runner_up": 1.0,
        "stop_loss": 4.6,
    }
    total, target = (
        search(loaded, requests(loaded), ValueConfig(**settings, stop_kind=kind), (7,)) for kind in ("total", "target")
    )
    assert (target.looks <= total.looks).all()
    assert int(target.looks.sum()) < int(total.looks.sum())
    stopped = target.looks < 25
    assert stopped.any()
    assert (-target.probability[stopped].log() < 4.6).all()


def test_a_fact_without_a_subject_has_no_drift_term_and_is_edited_at_the_prompts_end() -> None:
    loaded = tiny("llama")
    bare = replace(FACTS[0], subject=None)
    (request,) = make_requests(loaded.prompts, [bare], {bare.id: [TARGET]}, [], "subject_last")
    assert request.drift is None
    assert request.prompts[0].key == len(request.prompts[0].ids) - 1
    assert close(search(loaded, [request]).z[:, 0], plain_loop(loaded, request, CONFIG))


def test_a_loss_that_is_not_finite_names_the_fact() -> None:
    loaded = tiny("llama")
    with torch.no_grad():
        loaded.model.model.layers[3].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match=f"not finite at fact {FACTS[0].id}"):
        search(loaded, requests(loaded))


def test_finished_batches_are_kept_and_an_interrupted_search_ends_with_the_same_values(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny("llama")
    config = replace(CONFIG, batch_size=2)
    wanted = requests(loaded)

    def run(folder) -> Values:
        return search_values(loaded, wanted, config, LAYER, reporter=SilentReporter(), folder=folder, name="000")

    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = run(tmp_path / "whole")
    calls = {"n": 0}

    def interrupted(*arguments, **keywords) -> Values:
        calls["n"] += 1
        if calls["n"] == 3:
            raise KeyboardInterrupt
        return find_values(*arguments, **keywords)

    monkeypatch.setattr("unierase_cli.editing.checkpoints.find_values", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken")
    continued = run(tmp_path / "broken")
    assert calls["n"] == 4, "the two finished batches must not be searched again"
    assert torch.equal(whole.z, continued.z)
    assert torch.equal(whole.looks, continued.looks)
    clear_values(tmp_path / "broken")
    assert list((tmp_path / "broken").iterdir()) == []
