"""Benchmarks of trackers: official layouts, protocols under their own names, runs and result files."""
