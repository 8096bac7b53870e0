"""How the service is seen from outside: logs, traces, figures, workers and their devices."""
