"""How far the figures of a measurement can be relied on, and sentences that say so."""
