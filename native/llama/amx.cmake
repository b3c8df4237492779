# Included before llama.cpp's folder is added, in a checkout and for packages: see amx.h.
add_compile_options(
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/amx.h\">"
)
