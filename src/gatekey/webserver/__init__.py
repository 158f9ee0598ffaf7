"""The web server's side: configuration for each server, the agent, and the check that knocks from outside."""
