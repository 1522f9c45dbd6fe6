"""One script per claim or figure: absl flags in, run folder out."""
