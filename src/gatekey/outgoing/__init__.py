"""What we ask of others: mail servers, webhooks, guarded fetches. Each behind a port, each with limits of size and time."""
