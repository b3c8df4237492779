#!/bin/sh
# Removes what install.sh has put in this user's folders; models and conversations stay.
set -eu

data="${XDG_DATA_HOME:-$HOME/.local/share}"
bin="$HOME/.local/bin"
place="$data/snug-app"

refresh() {
    # A desktop without these programs looks into the folders itself.
    if command -v update-mime-database > /dev/null; then
        update-mime-database "$data/mime" > /dev/null 2>&1 || true
    fi
    if command -v update-desktop-database > /dev/null; then
        update-desktop-database "$data/applications" > /dev/null 2>&1 || true
    fi
}

if [ "${1:-}" = "--refresh" ]; then
    refresh
    exit 0
fi
while read -r file; do
    rm -f "$data/$file"
    (cd "$data" && rmdir -p --ignore-fail-on-non-empty "$(dirname "$file")") 2> /dev/null || true
done < "$place/desktop-files"
for program in snug snug-engine; do
    if [ "$(readlink "$bin/$program" || true)" = "$place/$program" ]; then rm "$bin/$program"; fi
done
rm -rf "$place"
refresh
# What the desktop had made of these alone goes too.
if [ -z "$(ls "$data/mime/packages" 2> /dev/null)" ]; then rm -rf "$data/mime"; fi
if ! ls "$data/applications"/*.desktop > /dev/null 2>&1; then
    rm -f "$data/applications/mimeinfo.cache"
    rmdir "$data/applications" 2> /dev/null || true
fi
rmdir "$bin" 2> /dev/null || true
echo "Snug is removed. Your models and conversations are still there."
