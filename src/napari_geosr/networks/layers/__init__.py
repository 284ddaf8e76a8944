"""Parts that networks have in common; not networks themselves."""
