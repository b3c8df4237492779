"""The only part of Snug that speaks to llama.cpp: its C API, through ctypes, and nothing above it."""
