"""Messages of Protocol Buffers: .proto files of our own, compiled into `messages.binpb`."""
