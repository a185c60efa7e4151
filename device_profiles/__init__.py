"""What kinds of device this project is made for: one YAML file each, and the loader that finds them."""
