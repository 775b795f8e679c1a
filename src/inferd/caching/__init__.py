"""Answers that are kept for requests that are equal, here or in Redis. It refuses to know models,
queues and protocols."""
