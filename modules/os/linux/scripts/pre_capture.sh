# What belongs to this machine and this load, not to the image.
delete_accounts
ungate
if [ -x /usr/lib/vcl/machine-keys ]; then /usr/lib/vcl/machine-keys forget; fi
rm -rf /var/lib/vcl /etc/vcl/parameters
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
rm -f /root/.ssh/authorized_keys /root/.ssh/known_hosts /root/.ssh/id_* /root/.bash_history
rm -f /etc/udev/rules.d/70-persistent-net.rules /var/lib/systemd/random-seed /var/lib/dhcp/*.leases
if [ -d /var/lib/cloud ]; then rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/sem; fi
# Empty, not gone: systemd makes a new one of an empty file, and takes a missing one for the very first boot.
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi
rm -f /var/lib/dbus/machine-id
# journald has its files mapped: it survives their going, not their shrinking.
rm -rf /var/log/journal/*
find /var/log -path /var/log/journal -prune -o -type f -exec truncate -s 0 {} +
find /tmp /var/tmp -xdev -mindepth 1 -delete 2>/dev/null || :
usermod -p '*' root
sync
