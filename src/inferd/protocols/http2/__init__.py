"""HTTP/2 (RFC 9113) on connections of our own. It knows nothing of gRPC."""
