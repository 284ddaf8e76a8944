"""Building blocks of docks: workers, messages, forms, charts. Knows no layers."""
