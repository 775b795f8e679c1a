"""What inferd can be told: frozen, strict structs, and the one place that reads them from outside.

`server.py` and `model.py` say what can be told, `load.py` merges command line, environment and file
for the server, `strict.py` turns a document into a struct or into an error with a place in it. No
module here knows what is done with a configuration.
"""
