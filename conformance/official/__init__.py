"""The released Python client, unmodified, against a running server: every method of the contract, one file per entity."""
