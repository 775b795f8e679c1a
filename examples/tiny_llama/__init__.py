"""A Llama of three million parameters, trained on what Python says of itself: `make demo-llm`."""
