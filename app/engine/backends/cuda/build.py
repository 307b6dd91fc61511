"""The backend for a GPU: Triton's kernels where they can be built, plain torch where not."""

from __future__ import annotations

import sys

import numpy as np
import torch

from strata.app.engine.backends.torch_backend import TorchBackend
from strata.app.engine.backends.torch_blocks import PlainBlocks
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Backend
from strata.app.engine.flat import flatten
from strata.model_store.bundle.bundle import Bundle

_BULK = 16384  # tokens of the batch that is run first: its memory is what later batches share


def build_cuda(bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> Backend:
    """A backend that has run at every exit. Raises RuntimeError where the device is not there or does not work."""
    found = torch.cuda.device_count()
    if (device.index or 0) >= found:
        raise RuntimeError(f"there is no {device}: torch finds {found} GPUs")
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    torch.cuda.set_device(device)
    # cuDNN's attention, which torch prefers, plans anew for every shape it has not seen.
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        from strata.app.engine.backends.cuda.backend import CudaBackend

        backend = CudaBackend(bundle, dtype=dtype, device=device)
        backend.warm_up(flatten(Batch(_bulk(bundle))))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # Triton raises what its compiler, its driver and the C compiler raise
        torch.cuda.synchronize(device)  # a device that is broken is not Triton's fault: that raises
        reason = (str(error) or repr(error)).splitlines()[0]
        print(f"engine: no Triton kernels, plain torch instead: {reason}", file=sys.stderr, flush=True)
        return TorchBackend(bundle, PlainBlocks(bundle, dtype=dtype, device=device), dtype=dtype, device=device)
    return backend


def _bulk(bundle: Bundle) -> list[Row]:
    """Rows of many lengths that leave at every exit, _BULK tokens or the least that does so."""
    m = bundle.manifest
    depths = sorted({*m.exits, *m.heads})
    longest = min(m.max_tokens, 128)
    lengths = [max(2, longest - i % longest) for i in range(max(len(depths), 2 * _BULK // longest))]
    return [
        Row(np.full(length, i % m.architecture.vocab_size, np.int32), depths[i % len(depths)], m.full_dim)
        for i, length in enumerate(lengths)
    ]
