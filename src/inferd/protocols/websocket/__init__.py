"""Calls over WebSocket (RFC 6455), many at a time on one connection: `/ws/models/{name}`."""
