# What may come in: from the management node all, from the user's address the connect methods' ports, else nothing but
# answers to what this machine asked. A table of our own, replaced whole in one step; whatever the image filters besides
# stays as it is. Connections that were open when an address was shut out are shut too: an answer passes for being an
# answer, but what began outside is asked with each packet where it comes from.
#
# The management node is whoever this connection comes from. Without one (a channel that needs no network) it needs no way.
granted=/run/vcl-granted

manager=${SSH_CONNECTION:-}
manager=${manager%% *}
manager=${manager%%%*}
manager=${manager#::ffff:}

# Sets rules. Numbers of protocols, not names: a small image has no /etc/protocols. Dropped, not rejected: to reject, an
# emulated machine would load modules for 0.2 s.
nft_rules() {
    rules='table inet vcl
delete table inet vcl
table inet vcl {
chain input {
type filter hook input priority -5; policy drop;
iif lo accept
ct direction reply ct state established,related accept
meta l4proto { 1, 58 } accept
udp sport 67 udp dport 68 accept
ip6 saddr fe80::/10 udp dport 546 accept'
    [ -z "$manager" ] || nft_rule "$manager"
    [ $# -eq 0 ] || nft_ports "$@"
    rules="$rules
}
}"
}

nft_ports() {
    source=$1
    shift
    for port in "$@"; do nft_rule "$source" "${port%:*} dport ${port#*:}"; done
}

nft_rule() {
    case $1 in *:*) family=ip6 ;; *) family=ip ;; esac
    rules="$rules
$family saddr $1 ${2:-} accept"
}

# The modules by one program: the kernel would start one for each, and some in vain.
by_nft() {
    [ -e /sys/module/nft_ct ] || modprobe -aq nf_tables nft_ct 2>/dev/null || :
    nft_rules "$@"
    nft -f - <<EOF
$rules
EOF
}

# $1: `-4` or `-6`; then as for gate.
iptables_rules() {
    case $1 in
    -4) own='-p 1' dhcp='-p udp --sport 67 --dport 68' ;;
    -6) own='-p 58' dhcp='-s fe80::/10 -p udp --dport 546' ;;
    esac
    printf '*filter\n:vcl-input - [0:0]\n'
    iptables_accept '-i lo' '-m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY' "$own" "$dhcp"
    [ -z "$manager" ] || [ "$(family "$manager")" != "$1" ] || iptables_accept "-s $manager"
    if [ $# -gt 1 ] && [ "$(family "$2")" = "$1" ]; then
        source=$2
        shift 2
        for port in "$@"; do iptables_accept "-s $source -p ${port%:*} --dport ${port#*:}"; done
    fi
    printf '%s\n' '-A vcl-input -j DROP' COMMIT
}

iptables_accept() {
    for match in "$@"; do printf '%s\n' "-A vcl-input $match -j ACCEPT"; done
}

family() {
    case $1 in *:*) echo -6 ;; *) echo -4 ;; esac
}

# $1: iptables or ip6tables; then as for iptables_rules.
by_iptables() {
    command=$1
    shift
    iptables_rules "$@" | "$command-restore" --noflush
    "$command" -w -C INPUT -j vcl-input 2>/dev/null || "$command" -w -I INPUT 1 -j vcl-input
}

filter() {
    if has nft && by_nft "$@"; then return; fi
    has iptables-restore || refuse "the image can close no port: it has neither nftables nor iptables that work"
    by_iptables iptables -4 "$@"
    [ -e /proc/net/if_inet6 ] || return 0
    has ip6tables-restore || refuse "the image speaks IPv6 and cannot close it: it has no ip6tables"
    by_iptables ip6tables -6 "$@"
}

# Ends the connections of who was let in before, if that was somebody else. The filter has silenced them already; this
# tells the programs at both ends, where the kernel can.
cut_off() {
    [ -e "$granted" ] || return 0
    read -r _ before ports <"$granted" || :
    { [ -n "$before" ] && [ "$before" != "${1:-}" ] && [ "$before" != "$manager" ] && has ss; } || return 0
    for port in $ports; do
        ss -K dst "$before" sport = ":${port#*:}" >/dev/null 2>&1 || :
    done
}

# Opens these ports for this address, and no other: gate [ADDRESS tcp:PORT|udp:PORT...].
gate() {
    filter "$@"
    cut_off "$@"
    read -r boot </proc/sys/kernel/random/boot_id
    printf '%s\n' "$boot $*" >"$granted"
}

# Whether the filter is of this boot: a user who is root may restart the machine, and nothing of ours outlives that.
stands() {
    [ -e "$granted" ] || return 1
    read -r boot </proc/sys/kernel/random/boot_id
    read -r of_boot _ <"$granted" || :
    [ "$boot" = "$of_boot" ]
}

ungate() {
    if has nft; then nft delete table inet vcl 2>/dev/null || :; fi
    for command in iptables ip6tables; do
        if has $command && $command -w -D INPUT -j vcl-input 2>/dev/null; then
            $command -w -F vcl-input
            $command -w -X vcl-input
        fi
    done
    rm -f "$granted"
}
