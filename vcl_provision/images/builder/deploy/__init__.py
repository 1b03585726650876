"""What a machine is started with, beside its disks: for QEMU, libvirt, VMware, VirtualBox, or none of them."""
