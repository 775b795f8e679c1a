"""Complete examples, each a folder that runs by `make`."""
