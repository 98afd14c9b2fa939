"""Several single-threaded training processes on one machine that average their gradients (gloo); or one, on a GPU.

Two processes of one thread each are faster here than one process of two threads: on busy cores the threads of one
operation wait for each other thousands of times a second, processes only once a step.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffedit_backend.models.device import computes_bf16
from diffedit_protocol.errors import BadInputError
from torch import Tensor
from torch.multiprocessing.spawn import start_processes


@dataclass(frozen=True)
class DistributedGroup:
    """This process (`rank`) among `size` equal ones, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared.item())

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace the gradient of every parameter that has one by its mean over the group, sent as bfloat16."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1).bfloat16() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()

    def seed_step(self, *numbers: int) -> np.random.Generator:
        """Seed torch and return a generator, both from these numbers and the rank: no random state has to be saved."""
        rng = np.random.default_rng((*numbers, self.rank))
        torch.manual_seed(int(rng.integers(1 << 62)))
        return rng

    def uploaded(self, values: Tensor) -> Tensor:
        """On the device; to a GPU without waiting for what it has still to do."""
        if self.device.type != "cuda" or values.is_cuda:
            return values.to(self.device)
        return values.pin_memory().to(self.device, non_blocking=True)

    def memory_sentence(self) -> str:
        """ ", 12.3 GB on the GPU at most" where there is one, else nothing."""
        gigabytes = self.gpu_gigabytes()
        return "" if gigabytes is None else f", {gigabytes:.1f} GB on the GPU at most"

    def gpu_gigabytes(self) -> float | None:
        """The most GPU memory (GB) that this process has had so far; None on the CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None

    def autocast(self) -> torch.autocast:
        """bfloat16 where it pays: on CPUs with AVX-512 BF16 and on GPUs. On others a step would take fifty times as
        long, since every number is converted.
        """
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu" or computes_bf16())


def launch(work: Callable[..., None], workers: int, device: str, *args: Any) -> None:
    """Run `work(group, *args)` in `workers` processes. On a GPU there has to be one."""
    if workers < 1 or (device != "cpu" and workers != 1):
        raise BadInputError(f"{workers} workers on {device}: give one worker on a GPU, one or more on a CPU.")
    if workers == 1:
        if device == "cpu":
            torch.set_num_threads(1)
        else:
            torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in float32
            torch.backends.cudnn.benchmark = True  # all batches have one shape
        work(DistributedGroup(0, 1, torch.device(device)), *args)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start_processes(_member, (workers, port, work, args), nprocs=workers, start_method="spawn")


def _member(rank: int, size: int, port: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    try:
        work(DistributedGroup(rank, size, torch.device("cpu")), *args)
    finally:
        dist.destroy_process_group()
