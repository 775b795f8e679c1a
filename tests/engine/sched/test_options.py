import pytest

from inferd.engine.sched.options import SchedulerOptions
from inferd.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_model_len": 0}, "max_model_len"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"max_num_seqs": 9, "max_num_batched_tokens": 8}, "max_num_batched_tokens"),
        ({"max_partial_prefills": 0}, "max_partial_prefills"),
        ({"inter_token_target_s": 0.0}, "inter_token_target_s"),
        ({"watermark": 1.0}, "watermark"),
    ],
)
def test_what_no_scheduler_could_keep_is_refused(options: dict[str, float], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SchedulerOptions(**({"max_model_len": 100} | options))
    assert caught.value.field == field
