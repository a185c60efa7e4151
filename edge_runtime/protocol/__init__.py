"""What is spoken over HTTP and gRPC: Open Inference Protocol v2, OpenAI-style routes, the forms of errors."""
