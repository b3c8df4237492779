#!/bin/bash
# Signs an app bundle. Usage: packaging/macos/sign.sh APP CODESIGN-OPTION...
# From the inside out: a signature covers those of what is inside. What is a program or a library is
# told by what is in it: those of frameworks (Qt's, Python) have no ending to their names.
set -euo pipefail

app="$1"
shift
find "$app/Contents" -type f -print0 | while IFS= read -r -d '' file; do
    case "$(file -b "$file")" in
        Mach-O*) test "$file" = "$app/Contents/MacOS/snug" || codesign --force "$@" "$file" ;;
    esac
done
find "$app/Contents" -depth -type d -name '*.framework' -exec codesign --force "$@" {} \;
codesign --force "$@" "$app" # and with it the program that it is named after
codesign --verify --deep --strict "$app"
