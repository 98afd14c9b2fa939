"""What a device's errors mean: out of memory is overcome in place, anything else needs a new process."""

from __future__ import annotations

import torch
from diffedit_protocol.errors import OutOfMemoryError

from ..method.memory import DeviceMemoryError

# Any CUDA error but out of memory leaves the context unusable (pytorch issues 44624, 17425). Newer versions of torch
# have a class for them; older ones a RuntimeError that holds one of these.
_LOST = ("CUDA error", "HIP error", "cuDNN error", "CUBLAS_STATUS", "device-side assert")
_NO_MEMORY = ("not enough memory", "out of memory")  # the CPU's allocator and Apple's have no class of their own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or this machine, had too little memory."""
    if isinstance(error, (torch.OutOfMemoryError, DeviceMemoryError, OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _NO_MEMORY)


def is_device_lost(error: BaseException) -> bool:
    """Whether this process can use its device no more. Ask `is_out_of_memory` first."""
    accelerator_error = getattr(torch, "AcceleratorError", None)
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _LOST)
