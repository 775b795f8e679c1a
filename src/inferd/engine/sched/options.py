"""What can be set about scheduling: limits, targets, and their defaults."""

from dataclasses import dataclass

from inferd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """Raises ConfigError for values that no scheduler could keep. Times are in seconds."""

    max_model_len: int
    """Longest sequence, prompt and output together."""
    max_num_seqs: int = 64
    """Sequences that run at once."""
    max_num_batched_tokens: int = 1024
    """Tokens in one step."""
    max_partial_prefills: int = 4
    """Sequences whose prompt is computed in part, at once."""
    inter_token_target_s: float = 0.1
    """How long a step may take while any sequence decodes; infinite goes for throughput alone."""
    min_prefill_chunk: int = 16
    """Prefill tokens that a step takes whatever the target says, so that prompts get on."""
    max_waiting_requests: int = 1024
    max_waiting_prompt_tokens: int = 1 << 20
    watermark: float = 0.01
    """The share of all blocks that an admission leaves free, for those that run to grow."""

    def __post_init__(self) -> None:
        for field in (
            "max_model_len",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_partial_prefills",
            "min_prefill_chunk",
            "max_waiting_requests",
            "max_waiting_prompt_tokens",
        ):
            if getattr(self, field) < 1:
                raise ConfigError("must be at least 1", field=field)
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"must be at least max_num_seqs ({self.max_num_seqs}), so that every sequence "
                "that decodes gets its token in every step",
                field="max_num_batched_tokens",
            )
        if self.inter_token_target_s <= 0.0:
            raise ConfigError("must be more than 0 seconds", field="inter_token_target_s")
        if not 0.0 <= self.watermark < 1.0:
            raise ConfigError("must be from 0 up to, and not with, 1", field="watermark")
