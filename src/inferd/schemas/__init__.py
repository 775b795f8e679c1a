"""Wire formats only: the shape of what protocols send and receive, without behaviour."""
