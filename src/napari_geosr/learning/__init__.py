"""Learning: methods, losses and the loop that trains a network from a person's data.

A method says how a batch is drawn and how it becomes a loss; a sample is a function of
(seed, step, index) alone, so that a run that was killed goes on as if it never was.
Devices, precision and several processes are `accelerate`'s business.
"""
