"""Detection heads: what raw outputs mean, one file a family of models. They know no picture and no label."""
