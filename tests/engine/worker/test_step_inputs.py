import numpy as np
import torch

from engine.worker.batches import batch
from inferd.engine.worker.step_inputs import Staging


def test_a_batch_arrives_as_it_is() -> None:
    given = batch([3, 1], [5, 40], [[2, 0, 1], [4, 3, 9]], 16)
    given.token_ids = np.array([7, 8, 9, 3], np.int32)
    given.logit_rows = np.array([2, 3], np.int32)
    inputs = Staging(torch.device("cpu")).inputs(given)
    meta = inputs.meta
    assert inputs.token_ids.tolist() == [7, 8, 9, 3]
    assert inputs.logit_rows.tolist() == [2, 3]
    assert meta.positions.tolist() == [2, 3, 4, 39]
    assert meta.slot_mapping.tolist() == [34, 35, 36, 151]
    assert meta.query_start.tolist() == [0, 3, 4]
    assert meta.seq_lens.tolist() == [5, 40]
    assert meta.block_tables.tolist() == given.block_tables.tolist()
    assert (meta.fewest_queries, meta.most_queries) == (1, 3)
    assert meta.positions.dtype == torch.int32


def test_arrays_lie_apart_and_where_kernels_like_them() -> None:
    staging = Staging(torch.device("cpu"))
    for size in (1, 16, 17, 5000):
        arrays = [np.full(size, n, np.int32) for n in range(3)]
        sent = staging.send([*arrays, np.zeros(0, np.int32)])
        assert [set(part.tolist()) for part in sent] == [{0}, {1}, {2}, set()]
        base = sent[0].data_ptr()
        assert all((part.data_ptr() - base) % 64 == 0 for part in sent)
