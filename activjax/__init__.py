"""activjax: read, edit, enumerate and train through the activations of any JAX function."""

__version__ = "0.1.0"
