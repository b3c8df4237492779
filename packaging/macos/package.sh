#!/bin/bash
# Makes BUILD/dist/snug-VERSION-ARCH.dmg of BUILD/dist/Snug.app: signed and notarized where the secrets
# are there, else signed for this computer only. Usage: packaging/macos/package.sh BUILD
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
dist="$1/dist"
app="$dist/Snug.app"
version="$("$here/../../.venv/bin/python" -c 'from engine import __version__; print(__version__)')"
dmg="$dist/snug-$version-$(uname -m).dmg"

cp -R "$dist/snug/licences" "$app/Contents/Resources/licences"

if [ -n "${CERTIFICATE_P12:-}" ]; then
    keychain="$RUNNER_TEMP/sign.keychain-db"
    password="$(uuidgen)"
    security create-keychain -p "$password" "$keychain"
    security unlock-keychain -p "$password" "$keychain"
    base64 --decode <<< "$CERTIFICATE_P12" > "$RUNNER_TEMP/certificate.p12"
    security import "$RUNNER_TEMP/certificate.p12" -k "$keychain" -P "$CERTIFICATE_PASSWORD" \
        -T /usr/bin/codesign
    rm "$RUNNER_TEMP/certificate.p12"
    security set-key-partition-list -S apple-tool:,apple: -s -k "$password" "$keychain" > /dev/null
    security list-keychains -d user -s "$keychain"
    identity=(--sign "$SIGN_IDENTITY" --options runtime --timestamp
        --entitlements "$here/entitlements.plist")
else
    identity=(--sign -)
fi
"$here/sign.sh" "$app" "${identity[@]}"
"$app/Contents/MacOS/snug" --selftest

stage="$(mktemp -d)"
ditto "$app" "$stage/Snug.app"
ln -s /Applications "$stage/Applications"
# "Resource busy" now and then.
for _ in 1 2 3 4 5; do
    hdiutil create -volname Snug -srcfolder "$stage" -ov -format UDZO "$dmg" && break
    sleep 10
done
test -f "$dmg"

if [ -n "${NOTARY_KEY:-}" ]; then
    codesign --force "${identity[@]}" "$dmg"
    base64 --decode <<< "$NOTARY_KEY" > "$RUNNER_TEMP/notary.p8"
    xcrun notarytool submit "$dmg" --wait --key "$RUNNER_TEMP/notary.p8" \
        --key-id "$NOTARY_KEY_ID" --issuer "$NOTARY_ISSUER"
    rm "$RUNNER_TEMP/notary.p8"
    xcrun stapler staple "$dmg"
fi

mount="$(mktemp -d)"
hdiutil attach "$dmg" -mountpoint "$mount" -nobrowse -readonly
"$mount/Snug.app/Contents/MacOS/snug" --selftest
hdiutil detach "$mount"
