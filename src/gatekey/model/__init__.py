"""Values without bytes, SQL, files or a clock: what the other rooms say to each other."""
