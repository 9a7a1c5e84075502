"""Target descriptions: registers, caches, compilers and flags as data, one .toml per target."""
