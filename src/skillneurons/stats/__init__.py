"""Arrays in, numbers out: intervals, tests, resampling; no tensor and no model."""
