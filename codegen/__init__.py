"""Graph to plan to text: lowering, and one folder per output language."""
