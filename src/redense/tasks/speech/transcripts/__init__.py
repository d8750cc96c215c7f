"""Texts of speech: alphabets, language models, beam search, scores."""
