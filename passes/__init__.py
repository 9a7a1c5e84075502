"""Graph to graph: one file per pass, and the pipelines that order them."""
