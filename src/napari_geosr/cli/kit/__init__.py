"""Shared parts of commands: options, help pages, and output in a terminal."""
