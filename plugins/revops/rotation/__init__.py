"""Which keys raw's tokens are written with, and how all of them come to another one."""
