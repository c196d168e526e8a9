"""A model during gradient training, with all its weights or adapters trainable, and the resulting patch."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import Step, UserError, stable_hash
from unierase_cli.editing.patch import Patch, changed_parameters
from unierase_cli.editing.solve import LowRank
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.devices import refuse_spread
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.room import is_out_of_memory
from unierase_cli.training import processes
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.optimisation import Masters
from unierase_cli.training.precision import choose_compute
from unierase_cli.training.sharding import ShardedBlocks, is_shared_out, whole
from unierase_cli.training.unlearning.objective import PURPOSE


class Trained:
    """Context in which the model trains through ``masters``.

    ``patch()`` ends the training and passes the change to ``context.weights``. Without it (an error, an interruption) the
    model is restored.
    """

    def __init__(self, loaded: LoadedModel, context: EraseContext) -> None:
        self.loaded, self.context = loaded, context
        self.config, self.adapter_config = context.experiment.unlearn, context.experiment.adapter
        self.adapter: Adapter | None = None
        self.masters: Masters
        self._base: dict[str, Tensor] = {}
        self._sharded: ShardedBlocks | None = None
        self._attention = loaded.model.config._attn_implementation
        self._dtype = loaded.architecture.embedding.weight.dtype

    def __enter__(self) -> Trained:
        try:
            if self.adapter_config.name == "lora":
                self._adapt()
            else:
                self._free()
            if self.config.gradient_checkpointing:
                self.loaded.model.gradient_checkpointing_enable({"use_reentrant": False})
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if is_out_of_memory(error):
            assert error is not None
            raise self._too_large(error) from error

    def patch(self, scale: float = 1.0) -> Patch:
        """End the training and return ``scale`` times the learned change, which the model now carries as a reversible change."""
        weights = self.context.weights
        if self.adapter is not None:
            found = self.adapter.changes().items()
            changes = {name: LowRank(scale * left, right) for name, (left, right) in found}
            self._restore()
            hashes = weights.hashes_of(changes)
            for name, change in changes.items():
                weights.add_named(name, change)
            return Patch(None, {}, hashes, named=changes)
        self.masters.finish(self._dtype)
        named = [(name, p) for name, p in self.loaded.model.named_parameters() if p.requires_grad]
        dense = {name: whole(p.detach()).to("cpu", self._dtype, copy=True) for name, p in named}
        if scale != 1:
            for name, value in dense.items():
                base = self._base[name].float()
                dense[name] = (base + scale * (value.float() - base)).to(value.dtype)
        dense = {name: value for name, value in dense.items() if not torch.equal(value, self._base[name])}
        self._restore()
        hashes = weights.hashes_of(dense)
        for name, value in dense.items():
            weights.set_dense(name, value)
        if not dense:
            raise UserError(
                "training is without effect: every weight is identical to base after rounding",
                "raise unlearn.lr or unlearn.epochs",
            )
        return Patch(None, {}, hashes, dense=dense)

    def _free(self) -> None:
        """Make all weights trainable in the fastest dtype, and keep a copy of their values on the CPU."""
        check_sharding(self.config, self.adapter_config)
        refuse_spread(self.loaded.model)
        model = self.loaded.model
        self._base = {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters()}
        dtype, reason = choose_compute(self.config.compute, self.loaded.device, "unlearn.compute")
        if self.loaded.device.type == "cpu" and dtype is torch.bfloat16:
            model.set_attn_implementation("eager")  # sdpa has no fast bfloat16 path on CPUs
        copies = " with float32 master weights" if self.config.masters and dtype is not torch.float32 else ""
        self.context.reporter.note(f"training in {str(dtype).removeprefix('torch.')}{copies} ({reason})")
        if self.config.sharding == "fsdp":
            self._sharded = ShardedBlocks(self.loaded, dtype)
        wanted = self._wanted()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in wanted)
        # All weights compute in one dtype; those that are not trained need no master.
        for name, parameter in model.named_parameters():
            if name not in wanted and not is_shared_out(parameter):
                parameter.data = parameter.data.to(dtype)
        self.masters = Masters([p for p in model.parameters() if p.requires_grad], dtype, self.config.masters)

    def _wanted(self) -> set[str]:
        """Names of the weights to train (``unlearn.modules``, ``unlearn.layers``, ``unlearn.ends``). Raises UserError if none is
        left.
        """
        config, architecture = self.config, self.loaded.architecture
        named = dict(self.loaded.model.named_parameters())
        if config.layers is not None:
            architecture.check_layers(config.layers)
        ends = {id(architecture.embedding.weight), *map(id, architecture.head.parameters())}
        within = tuple(f"{architecture.blocks_name}.{layer}." for layer in config.layers or ())
        endings = tuple(f".{ending}" for ending in config.modules)
        found = {
            name
            for name, parameter in named.items()
            if (config.layers is None or name.startswith(within))
            and (not config.modules or name.rpartition(".")[0].endswith(endings))
            and (config.ends or id(parameter) not in ends)
        }
        if not found:
            known = sorted({name.split(".")[-2] for name, p in named.items() if p.dim() > 1})
            raise UserError(
                f"unlearn.modules={config.modules} in blocks {'all' if config.layers is None else config.layers} matches no weight",
                f"choose among: {', '.join(known)}",
            )
        if len(found) < len(named):
            share = sum(named[name].numel() for name in found) / sum(p.numel() for p in named.values())
            self.context.reporter.note(
                f"training {len(found)} of {len(named)} tensors, {100 * share:.1f} % of the weights"
            )
        return found

    def _adapt(self) -> None:
        check_sharding(self.config, self.adapter_config)
        refuse_spread(self.loaded.model)
        seed = stable_hash(self.context.experiment.run.seed, "adapter")
        self.adapter = Adapter(self.loaded, self.adapter_config, seed)
        parameters = self.adapter.parameters
        size = sum(p.numel() for p in parameters)
        self.context.reporter.note(
            f"training LoRA adapters of rank {self.adapter_config.r}, {size / 1e6:.2f} M parameters, on {self._dtype} weights"
        )
        if self.config.gradient_checkpointing:
            self.loaded.model.enable_input_require_grads()
        self.masters = Masters(parameters, torch.float32)

    def _restore(self) -> None:
        """Restore the model to its state before training."""
        model = self.loaded.model
        if self.adapter is not None:
            self.adapter.remove()
            self.adapter = None
        if self.config.gradient_checkpointing:
            model.gradient_checkpointing_disable()
            if getattr(model, "_require_grads_hooks", None):
                model.disable_input_require_grads()
        if self._sharded is not None:
            self._sharded.put_back()
            self._sharded = None
        for name, parameter in model.named_parameters():
            parameter.grad = None
            if name in self._base:
                parameter.data = self._base[name].to(parameter.device, copy=True)
        self._base = {}
        model.requires_grad_(False)
        model.eval()
        model.set_attn_implementation(self._attention)

    def _too_large(self, error: BaseException) -> UserError:
        config = self.config
        rows = self.loaded.room.size(PURPOSE, config.micro_batch or config.batch_size)
        device = self.loaded.device
        peak = f", peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
        ways = [f"unlearn.micro_batch={rows // 2}"] if rows > 1 else []
        ways += [] if config.gradient_checkpointing else ["unlearn.gradient_checkpointing=true"]
        whole = self.adapter_config.name == "none"
        ways += ["unlearn.masters=false"] if whole and config.masters else []
        ways += ["unlearn.optimizer=paged_adamw_8bit"] if whole and device.type == "cuda" else []
        ways += ["adapter=lora"] if whole else []
        ways += ["several GPUs with unlearn.sharding=fsdp"] if whole and config.sharding == "none" else []
        return UserError(
            f"out of memory with {rows} row{'s' if rows > 1 else ''} a pass on {device}{peak}",
            "try " + ", then ".join(ways) if ways else "use a device with more memory",
        )


def check_sharding(config: UnlearnConfig, adapter: AdapterConfig) -> None:
    """Raise UserError for settings that cannot be combined with blocks sharded over processes."""
    if config.sharding != "fsdp":
        return
    if adapter.name == "lora":
        raise UserError("adapter=lora cannot be sharded over processes", "leave out unlearn.sharding=fsdp, or adapter=lora")
    if config.reference == "second_model":
        raise UserError(
            "unlearn.sharding=fsdp cannot hold a second model beside the sharded one",
            "choose unlearn.reference=stored, or adapter=lora without fsdp",
        )
    if config.batch_size % processes.world():
        raise UserError(
            f"unlearn.batch_size={config.batch_size} cannot be divided evenly among {processes.world()} processes, "
            "which unlearn.sharding=fsdp requires",
            f"choose unlearn.batch_size={processes.world() * max(1, config.batch_size // processes.world())}",
        )
    if processes.world() == 1:
        raise UserError(
            "unlearn.sharding=fsdp shards a model over several processes, but there is only one",
            "start it as accelerate launch -m unierase_cli ..., or leave it out",
        )


def describe(loaded: LoadedModel, step: Step, patch: Patch, experiment: Experiment) -> dict[str, Any]:
    """Metadata of a gradient method's patch."""
    total = sum(p.numel() for p in loaded.model.parameters())
    return {
        "step": step.index,
        "facts": [fact.id for fact in step.forget],
        "edits_before": len(step.forgotten_before),
        "changed_share": changed_parameters(patch, loaded) / total,
        "adapter": experiment.adapter.name,
    }

