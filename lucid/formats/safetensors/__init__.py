"""safetensors files (the format of github.com/huggingface/safetensors), without its library."""
