"""`inference.GRPCInferenceService`: the Open Inference Protocol over gRPC."""
