"""What runs in the data centre: serving now, and the operator of the fleet later."""
