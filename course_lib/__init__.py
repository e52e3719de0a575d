"""Image diffusion, built and measured: the library behind the notebooks."""
