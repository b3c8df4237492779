"""The only part of Snug that speaks to llama.cpp, through the C API and ctypes."""
