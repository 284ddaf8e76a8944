"""Code that commands share: options, help pages, and output in a terminal."""
