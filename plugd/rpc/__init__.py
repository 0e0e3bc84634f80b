"""msgpack-RPC without I/O: bytes and messages, and their limits."""
