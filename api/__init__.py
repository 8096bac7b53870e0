"""The HTTP interface: thin routes over `jobs`, problem+json for every refusal, server-sent events. Torch-free."""
