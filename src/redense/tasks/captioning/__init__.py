"""Caption generation: a sentence for a picture, by an LSTM over a frozen CNN's features (NeuralTalk)."""
