"""From C to a loaded module: compilers, the build cache, calling, profiling, emulation."""
