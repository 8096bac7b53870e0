"""Addresses that are told when jobs end: judged, signed, retried."""
