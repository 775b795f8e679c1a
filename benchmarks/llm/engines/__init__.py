"""One program an engine: `python -m benchmarks.llm.engines.NAME` with a job as JSON on its standard
input gives a JSON line for each task done."""
