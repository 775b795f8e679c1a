"""Routes for texts over models of tensors: embeddings, reranking, classification."""
