"""The smallest machine there is: whether it can be run says whether KVM works, which a device that opens does not."""

from __future__ import annotations

_PROGRAM = bytes.fromhex(
    # As a PC starts, in 16-bit real mode: no interrupts, clear 12 KiB at 0x1000 for page tables.
    "fa 6631c0 8ed8 8ec0 66bf00100000 66b9000c0000 fc 66f3ab"
    # Map the first 2 MiB to itself: level 4 at 0x1000, level 3 at 0x2000, level 2 at 0x3000.
    "66c706001003200000 66c706002003300000 66c706003083000000"
    # CR3 = 0x1000; CR4: PAE; EFER (MSR 0xc0000080): long mode; descriptor table; CR0: paging, protection.
    "66b800100000 0f22d8 0f20e0 0c20 0f22e0 66b9800000c0 0f32 80cc01 0f30"
    "660f0116987c 0f20c0 660d01000080 0f22c0"
    "ea687c0800"  # jump to 64-bit code
    "b9002d3101 890c2500800000 ffc9 75f5"  # 20 million times: store a counter at 0x8000
    "66ba0406 66b80020 66ef"  # port 0x604, the ACPI control register where QEMU's BIOS puts it: soft off
    "f4 ebfd 0f1f00"  # hlt, for ever
    "0000000000000000 00000000009a2000"  # the descriptor table: none, 64-bit code
    "0f00 887c0000"  # its length and place
)
BOOT_SECTOR = _PROGRAM.ljust(510, b"\0") + b"\x55\xaa"
"""What BIOS starts, 512 bytes of ours: enters 64-bit mode with paging as every kernel does, works, and turns the
machine off, which it cannot do without having done the rest. There are hosts whose KVM runs a BIOS, and then hangs."""
