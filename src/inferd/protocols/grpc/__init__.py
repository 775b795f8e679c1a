"""gRPC over HTTP/2: calls, their framing and their status, and the services, one file each."""
