"""What the Restore dock says and asks before a run: outlook and ranking."""
