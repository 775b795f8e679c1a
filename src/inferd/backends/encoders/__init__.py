"""Encoders of text as transformers and sentence-transformers save them: what `transformers.py`
beside this folder is made of. It refuses to know requests, queues and protocols."""
