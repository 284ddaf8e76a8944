"""The report of a measurement: rows, tables, HTML, stored results."""
