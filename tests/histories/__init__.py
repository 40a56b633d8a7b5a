"""Random tables and what happens to them, made from a seed: for the fault drills and the tests of the extraction."""
