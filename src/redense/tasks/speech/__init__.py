"""Speech recognition: recordings with transcripts, spectrograms, recurrent networks trained with CTC."""
