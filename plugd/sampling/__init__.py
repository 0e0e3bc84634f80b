"""When plugins collect, and where their samples go."""
