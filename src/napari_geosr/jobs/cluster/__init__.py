"""Jobs in the queue of a cluster, or on another computer reached through ssh."""
