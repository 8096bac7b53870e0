"""One file per thing the API serves. A route validates, calls one function of `jobs`, and answers."""
