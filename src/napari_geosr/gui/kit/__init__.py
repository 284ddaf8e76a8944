"""Building blocks of docks: workers, messages, forms, charts; none for layers."""
