"""Words that people read or type: titles, suggestions, short descriptions."""
