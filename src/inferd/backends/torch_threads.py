"""How many threads torch uses for what the calling thread asks of it."""

import torch


def use_threads(count: int) -> None:
    """Set it, where it is another. OpenMP keeps it for each thread that calls, so instances do not
    disturb each other; the next model on the same thread may want another."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
