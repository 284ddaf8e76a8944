"""How images come about: phantoms, blur, sampling, noise, projections."""
