"""The dashboard: pages made on the server from what the API's own routes answer. Whole without the internet."""
