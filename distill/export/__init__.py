"""What an export is made of: files, ONNX graphs, checks against the run, speed, model card."""
