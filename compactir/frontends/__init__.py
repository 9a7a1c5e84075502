"""Foreign models in: each package reads one format into a Graph; `build` is what they share."""
