"""Simulated specimens of known structure: foams, rock, fibres, teeth."""
