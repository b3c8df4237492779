#!/bin/sh
# Installs Snug for this user only: the .run file starts this where it has unpacked itself.
set -eu

data="${XDG_DATA_HOME:-$HOME/.local/share}"
bin="$HOME/.local/bin"
place="$data/snug-app"

mkdir -p "$data" "$bin"
# The new one is whole before the old one goes.
rm -rf "$place.new"
cp -a snug "$place.new"
cp uninstall.sh "$place.new/uninstall.sh"
chmod +x "$place.new/uninstall.sh"
rm -rf "$place.old"
if [ -e "$place" ]; then mv "$place" "$place.old"; fi
mv "$place.new" "$place"
rm -rf "$place.old"

(cd share && find . -type f) > "$place/desktop-files"
while read -r file; do
    mkdir -p "$data/$(dirname "$file")"
    cp "share/$file" "$data/$file"
done < "$place/desktop-files"
# A menu has no PATH of ours. In a quoted word of Exec some characters are escaped, and backslashes
# once more, as everywhere in the file.
escaped=$(printf '%s' "$place/snug" | sed -e 's/[\\"`$]/\\&/g' -e 's/\\/\\\\/g' -e 's/%/%%/g')
{
    grep -v '^Exec=' share/applications/snug.desktop
    printf 'Exec="%s" %%f\n' "$escaped"
} > "$data/applications/snug.desktop"
ln -sf "$place/snug" "$bin/snug"
ln -sf "$place/snug-engine" "$bin/snug-engine"

"$place/uninstall.sh" --refresh
echo "Snug is installed for you: start it from the menu, or with $bin/snug."
echo "To remove it: $place/uninstall.sh"
