# Whether KVM works here: boots the smallest machine there is, which turns itself off. 64-bit code, paging and all.
kvm_works() {
    [ -w /dev/kvm ] || return 1
    probe=$(mktemp)
    {
        printf %s @PROGRAM@ | base64 -d
        head -c @ZEROS@ /dev/zero
        printf '\125\252'
    } > "$probe"
    works=no
    timeout --signal=KILL 3 qemu-system-x86_64 -nodefaults -machine pc -accel kvm -m 16 -display none \
        -drive "file=$probe,format=raw,if=ide" < /dev/null > /dev/null 2>&1 && works=yes
    rm -f "$probe"
    [ $works = yes ]
}
