from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from inferd.observability.generation_statistics import EngineGauges, GenerationStatistics
from inferd.observability.llm_metrics import LLM_HISTOGRAMS, LLM_METRICS
from inferd.observability.metrics import MetricsRegistry
from inferd.observability.statistics import Histogram, ModelStatistics


@dataclass
class Llm:
    name: str = "llama"
    version: int = 2
    statistics: GenerationStatistics = field(default_factory=GenerationStatistics)

    def gauges(self) -> EngineGauges:
        return EngineGauges(running=3, waiting=1, kv_usage=0.5, kv_waste=0.02, prefix_hits=9)


@dataclass
class Model:
    name: str
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    statistics: ModelStatistics = field(default_factory=ModelStatistics)
    keeps_answers: bool = True

    def queue_depth(self) -> int:
        return 0

    def queue_depths(self) -> dict[int, int]:
        return {}

    def in_flight(self) -> int:
        return 0

    def worker_restarts(self) -> int:
        return 0

    def active_sequences(self) -> int:
        return 0

    def backlogged_sequences(self) -> int:
        return 0


def page(*llms: Llm) -> dict[tuple[str, str], float]:
    """Values of the language models' metrics by name and the last label's value."""
    text = MetricsRegistry(list, lambda: llms, dict, dict).render().decode()
    return {
        (sample.name, sample.labels.get("finished_reason", sample.labels.get("le", ""))): (
            sample.value
        )
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
        if sample.labels.get("model_name") == "llama"
    }


def test_a_language_models_metrics_have_vllms_names_and_values() -> None:
    llm = Llm()
    llm.statistics.prompt_tokens = 12
    llm.statistics.finished["length"] = 4
    llm.statistics.inter_token.observe(20_000_000)
    found = page(llm)
    assert found["vllm:num_requests_running", ""] == 3
    assert found["vllm:num_requests_waiting", ""] == 1
    assert found["vllm:kv_cache_usage_perc", ""] == 0.5
    assert found["vllm:prefix_cache_hits_total", ""] == 9
    assert found["inferd_kv_waste_ratio", ""] == 0.02
    assert found["vllm:prompt_tokens_total", ""] == 12
    assert found["vllm:request_success_total", "length"] == 4
    assert found["vllm:inter_token_latency_seconds_bucket", "0.01"] == 0
    assert found["vllm:inter_token_latency_seconds_bucket", "0.025"] == 1
    assert found["vllm:inter_token_latency_seconds_sum", ""] == 0.02


def test_every_metric_is_there_once_and_none_without_a_language_model() -> None:
    names = [metric.name for metric in (*LLM_METRICS, *LLM_HISTOGRAMS)]
    assert len(names) == len(set(names))
    found = {name for name, _ in page(Llm())}
    for name in names:
        assert any(there.startswith(name) for there in found), name
    assert page() == {}


def test_a_models_tags_are_labels_of_all_of_its_metrics() -> None:
    models = [Model("a", {"team": "search", "tier": "1"}), Model("b", {"team": "ads"}), Model("c")]
    models[0].statistics.steps["1", "m"] = Histogram((1,))
    text = MetricsRegistry(lambda: models, list, dict, dict).render().decode()
    found: dict[str, set[tuple[str, str]]] = {"a": set(), "b": set(), "c": set()}
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            if "model" in sample.labels:
                tags = sample.labels.get("team", "?"), sample.labels.get("tier", "?")
                found[sample.labels["model"]].add(tags)
    assert 'inferd_ensemble_step_duration_seconds_count{model="a",step="1"' in text
    assert 'nv_cache_num_hits_per_model{model="c"' in text
    assert found == {"a": {("search", "1")}, "b": {("ads", "")}, "c": {("", "")}}


def test_a_model_may_be_called_as_a_counter_is() -> None:
    models = [Model("nv_inference_total", {"team": "nv_team_total"})]
    text = MetricsRegistry(lambda: models, list, dict, dict).render().decode()
    line = 'nv_inference_count{model="nv_inference_total",team="nv_team_total",version="1"} 0'
    assert line in text
    assert "# TYPE nv_inference_count counter" in text
