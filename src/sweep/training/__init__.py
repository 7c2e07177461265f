"""The training loop: updates, the loss and its gradient, and when a training has diverged."""
