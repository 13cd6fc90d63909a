"""HTTP requests in, JSON out: the service in the shape of other rerankers, and its own."""
