"""The networks that checkpoints run in, their autoencoder, and what makes them ready to sample."""
