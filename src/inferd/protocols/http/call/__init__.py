"""Calls with named arguments over HTTP: `POST /models/{name}`, and what describes them."""
