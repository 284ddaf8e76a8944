"""The nouns and their grammar: volumes, units, errors, steps, configs. No torch."""
