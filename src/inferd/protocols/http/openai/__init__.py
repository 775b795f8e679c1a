"""The OpenAI API with vLLM's additions: it translates to the DataPlane and back."""
