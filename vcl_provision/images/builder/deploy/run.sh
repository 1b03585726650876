#!/bin/sh
# Starts @NAME@ in QEMU. What is said after the name goes to QEMU: @SELF@ -display none
# ACCEL=kvm or ACCEL=tcg says how, instead of finding out; SSH_PORT is the port of this host that leads to the machine's ssh.
set -eu
cd "$(dirname "$0")"

@KVM_WORKS@
find_firmware() {
    for file in /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd /usr/share/edk2/x64/OVMF_CODE.4m.fd \
        /usr/share/edk2/ovmf/OVMF_CODE.fd /usr/share/qemu/ovmf-x86_64-code.bin; do
        if [ -e "$file" ]; then
            printf '%s\n' "$file"
            return
        fi
    done
    echo "$0: no UEFI firmware for QEMU is installed (on Debian: apt-get install ovmf)" >&2
    return 1
}

command -v qemu-system-x86_64 > /dev/null || {
    echo "$0: QEMU is not installed (on Debian: apt-get install qemu-system-x86)" >&2
    exit 1
}
if [ -z "${ACCEL:-}" ]; then
    if kvm_works; then ACCEL=kvm; else ACCEL=tcg; fi
fi
if [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then set -- -nographic "$@"; fi
@FIRMWARE@
exec qemu-system-x86_64 @MACHINE@ \
    -accel "$ACCEL" -netdev "user,id=net,hostfwd=tcp:127.0.0.1:${SSH_PORT:-2222}-:22" "$@"
