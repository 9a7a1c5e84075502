"""Graph to plan: kernel choice, layout, memory."""
