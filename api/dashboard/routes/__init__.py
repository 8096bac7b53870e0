"""One file per page. A page asks the API's own route functions, so that it can show and do nothing that the API would not."""
