"""Graph to a readable PyTorch module."""
