"""What follows from a configuration alone: keys, names, learning rates, designs, controls and costs. Pure."""
