"""Building blocks of docks: workers, messages, forms and charts, but not layers."""
