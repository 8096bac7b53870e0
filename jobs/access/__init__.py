"""Who may use the service: tenants, keys, quotas, secrets, and the audit of what they did."""
