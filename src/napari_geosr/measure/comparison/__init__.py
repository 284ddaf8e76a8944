"""Compare volumes of one object: grey values, noise, resolution, and pores."""
