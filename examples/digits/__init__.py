"""From a scikit-learn classifier to answers over HTTP: `make demo`."""
