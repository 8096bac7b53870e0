"""The domain that the API and the worker share: tables, states, repository, events, artifacts, settings. Torch-free."""
