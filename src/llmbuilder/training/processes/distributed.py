"""Several processes, one run: who they are, how they agree, how a model is replicated or sharded over them.

The processes are started by torchrun (or, on one machine, by `llmbuilder train model --nproc N`) and find each other
by its environment variables. The model's own code knows nothing of this.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmbuilder.config.schema import SystemConfig
from llmbuilder.errors import LLMBuilderError, LostProcessError, TrainingError
from llmbuilder.machine import resolve_device
from llmbuilder.model import LanguageModel

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a run as one of them sees them: its `rank` among `count`."""

    rank: int = 0
    count: int = 1

    @property
    def count_here(self) -> int:
        """The number of them on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", str(self.count)))

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, the same in each."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process and return its result in all; its errors are raised in all."""
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_main:
            try:
                outcome[0] = work()
            except Exception as error:  # noqa: BLE001 - raised below, when the others know
                failure = error
                outcome[1] = _for_the_others(error)
        dist.broadcast_object_list(outcome, src=0)
        if failure is not None:
            raise failure
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, in order of rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


def _for_the_others(error: Exception) -> LLMBuilderError:
    """Return what the other processes raise for an error of the main one: itself if it is ours, else its text."""
    if isinstance(error, LLMBuilderError):
        with contextlib.suppress(TypeError):  # of a class that is not made from its message
            return type(error)(str(error))
    return TrainingError(f"the main process failed: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class Launch:
    """One call of torchrun: its `name`, None without torchrun, and how often it has started its processes again."""

    name: str | None = None
    restarts: int = 0

    @property
    def is_restarted(self) -> bool:
        """Whether torchrun started these processes again after one of the run's failed."""
        return self.name is not None and self.restarts > 0


def this_launch() -> Launch:
    """Return the launch this process belongs to, as torchrun's environment variables tell."""
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return Launch(os.environ.get("TORCHELASTIC_RUN_ID"), restarts)


@contextlib.contextmanager
def joined_processes(system: SystemConfig) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did, and leave them at the end.

    Raises LostProcessError in the others when one of them ends or stays silent for
    `system.distributed_timeout_seconds`.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if dist.is_initialized():
        yield _myself(count)
        return
    device = process_device(system)
    backend = system.distributed_backend
    if backend == "auto" or (backend == "nccl" and device.type != "cuda"):
        backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = datetime.timedelta(seconds=system.distributed_timeout_seconds)
    is_connected = True
    try:
        store, rank, _ = next(dist.rendezvous("env://", timeout=timeout))
        # Processes that were started again must not find the addresses of those that died.
        store = dist.PrefixStore(f"attempt-{this_launch().restarts}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
        yield _myself(count)
        gc.collect()  # what still holds on to the connections would end the process with an error later
        dist.barrier()
    except RuntimeError as error:
        if not _is_about_connection(error):
            raise
        is_connected = False
        raise LostProcessError(
            f"process {os.environ['RANK']} of {count} lost the others: one of them ended or did not answer within "
            f"{system.distributed_timeout_seconds} s. Its own message is above or in its log; go on from the last "
            "checkpoint with `llmbuilder train resume`"
        ) from error
    finally:
        if is_connected and dist.is_initialized():
            dist.destroy_process_group()


def _myself(count: int) -> Processes:
    return Processes(dist.get_rank(), count)


def _is_about_connection(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, dist.DistError) or any(
        sign in text for sign in ("gloo", "NCCL", "Connection closed", "Connection reset", "Timed out", "Socket")
    )


def process_device(system: SystemConfig) -> torch.device:
    """Return the device of this process: under torchrun each takes the GPU of its local rank."""
    device = resolve_device(system.device)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


class _WithLoss(nn.Module):
    """A model as training calls it: with the loss inside what is compiled and what processes share."""

    def __init__(self, model: LanguageModel, objective: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, *batch: Tensor) -> Tensor:
        return self._objective(self.model, *batch)


class ReplicatedModel:
    """A model that is whole in every process; gradients are averaged (DDP) when there are several."""

    is_sharded = False

    def __init__(self, model: LanguageModel, processes: Processes, objective: Callable[..., Tensor]) -> None:
        self._several = processes.count > 1
        with_loss = _WithLoss(model, objective)
        self.module: nn.Module = nn.parallel.DistributedDataParallel(with_loss) if self._several else with_loss

    def averaging(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Average the gradients of a backward pass inside only if it is the step's last."""
        if self._several and not is_last:
            return self.module.no_sync()  # type: ignore[operator]
        return contextlib.nullcontext()


class ShardedModel:
    """A model cut over the processes, layer by layer (FSDP2): each holds its part of weights and optimizer state."""

    is_sharded = True

    def __init__(
        self,
        model: LanguageModel,
        device: torch.device,
        precision: torch.dtype,
        count: int,
        objective: Callable[..., Tensor],
    ) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        policy = MixedPrecisionPolicy()
        if precision != torch.float32:
            policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
        mesh = init_device_mesh(device.type, (count,))
        for layer in model.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        for method in ("summed_loss", "log_likelihoods"):
            register_fsdp_forward_method(model, method)
        self._model = model
        self.module: nn.Module = _WithLoss(model, objective)

    @contextlib.contextmanager
    def averaging(self, is_last: bool) -> Iterator[None]:
        """Reduce the gradients of a backward pass inside only if it is the step's last."""
        self._model.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        yield
