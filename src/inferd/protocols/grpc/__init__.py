"""gRPC on connections of HTTP/2; its services are in files and folders of their own."""
