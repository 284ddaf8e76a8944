"""Operations on time series and several channels: point by point, in one run."""
