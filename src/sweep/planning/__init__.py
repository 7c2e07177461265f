"""What follows from a configuration: keys, names, learning rates, designs, controls and costs. Pure."""
