"""The training loop: updates, loss and gradient, and when a training has diverged."""
