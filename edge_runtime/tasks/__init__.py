"""What models do, by declaration: pictures to tensors, tensors to answers. Knows no engine."""
