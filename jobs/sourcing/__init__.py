"""Models and texts that jobs name, found and brought to this machine. The one place that downloads."""
