"""What the Compose stack needs before it starts: secrets, certificates and the connections file."""
