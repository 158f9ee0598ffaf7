"""All SQL. The ledger is the only writer of certificates; every change carries its audit event in the same transaction."""
