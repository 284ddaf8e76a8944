"""What any dock is made of: workers, messages, forms, charts. Knows no layer."""
