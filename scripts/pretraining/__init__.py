"""How the bundled models are trained and judged."""
