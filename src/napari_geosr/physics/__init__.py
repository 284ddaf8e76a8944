"""Image formation: phantoms, blur, sampling, noise, projections."""
