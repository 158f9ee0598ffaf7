"""Private keys: what they are made of, and where they live. Signs bytes; of X.509 it knows only the encrypted form of a private key."""
