"""The checks, a file an area, or a few that belong together. Importing this fills the table."""

from inferd.conformance.checks import (
    batching,
    binary_data,
    datatypes,
    drain,
    limits,
    metadata,
    repository,
    sequences,
    shared_memory,
    statistics,
    streaming,
    validation,
)

AREAS = (
    metadata.AREA, datatypes.AREA, binary_data.AREA, validation.AREA, batching.AREA,
    batching.PRIORITY, batching.QUEUE, sequences.AREA, streaming.AREA, batching.ENSEMBLES,
    statistics.AREA, shared_memory.AREA, repository.AREA, limits.AREA, drain.AREA,
)  # fmt: skip
"""In the order in which they run: what changes the server comes late, what could end it last."""
