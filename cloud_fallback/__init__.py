"""What runs in the data centre: serving, and the operator of the fleet. Planned; nothing is here yet."""
