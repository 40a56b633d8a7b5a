"""Data quality: Soda runs, scores and gates."""
