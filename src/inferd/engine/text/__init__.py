"""Between text and tokens: tokenizer, incremental detokenisation, stop strings, chat templates.

This room refuses to know logits, sequences and the engine. It needs the packages of the extra
`llm`, and asks for them only when something is loaded.
"""
