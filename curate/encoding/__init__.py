"""The pipeline read → decode → encode, and the encoder that queries go through."""
