"""A step's arrays on their way to the device: all in one copy, which nobody waits for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inferd.engine.worker.attention import AttentionMetadata
from inferd.engine.worker.base import InputBatch, Int32

_ALIGNMENT = 16
"""Arrays begin at multiples of so many numbers, as kernels like their pointers."""


@dataclass(slots=True)
class StepInputs:
    """A batch on the device, as int32: `token_ids` [T], `logit_rows` [R], and where they are."""

    token_ids: Tensor
    logit_rows: Tensor
    meta: AttentionMetadata


class Staging:
    """Memory of the host that the device copies from. What one `send` gives is valid until the
    next, which must not begin before the device has read the last: the copy of a step's logits
    makes sure of that."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = torch.empty(0, dtype=torch.int32)

    def inputs(self, batch: InputBatch) -> StepInputs:
        """A batch on the device."""
        token_ids, positions, slots, starts, lengths, tables, rows = self.send(
            (
                batch.token_ids, batch.positions, batch.slot_mapping, batch.query_start,
                batch.seq_lens, batch.block_tables, batch.logit_rows,
            )
        )  # fmt: skip
        queries = np.diff(batch.query_start)
        meta = AttentionMetadata(
            batch, positions, slots, starts, lengths, tables,
            int(queries.min(initial=1)), int(queries.max(initial=1)),
        )  # fmt: skip
        return StepInputs(token_ids, rows, meta)

    def send(self, arrays: Sequence[Int32]) -> list[Tensor]:
        """Those arrays on the device."""
        starts = [0]
        for array in arrays:
            starts.append(starts[-1] - (-array.size // _ALIGNMENT) * _ALIGNMENT)
        if starts[-1] > len(self._host):
            pinned = self._device.type == "cuda"
            self._host = torch.empty(2 * starts[-1], dtype=torch.int32, pin_memory=pinned)
        host = self._host.numpy()
        for array, start in zip(arrays, starts, strict=False):
            host[start : start + array.size] = array.reshape(-1)
        sent = self._host[: starts[-1]].to(self._device, non_blocking=True)
        return [
            sent[start : start + array.size].view(array.shape)
            for array, start in zip(arrays, starts, strict=False)
        ]
