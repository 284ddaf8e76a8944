"""Text for users: titles, suggestions, short descriptions."""
